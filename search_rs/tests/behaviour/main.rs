//! Behaviour of the engine as its callers see it, without an interpreter.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod brute_force;
mod common;
mod cost;
mod draw;
mod exclusive;
mod greedy;
mod knapsack;
mod outside;
mod session;
mod spending;
