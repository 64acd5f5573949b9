//! What every search strategy is to its callers, and the table of those there are.
//!
//! Invariant: a strategy is a pure function of the network, the limit, the options and the scores. So
//! a search that is begun anew and given the same scores takes the same steps, and a caller that
//! keeps the scores resumes a search by asking again.

use std::fmt::Debug;
use std::sync::Arc;

use crate::error::SearchError;
use crate::greedy::GreedySearch;
use crate::network::Network;
use crate::policy::Policy;
use crate::trace::{SearchResult, TraceStep};

/// A search that asks for scores and is told them, until it has the policy with the lowest score of
/// those it asked for within the limit.
pub trait Strategy: Debug + Send + Sync {
    /// Return policies whose scores are needed, never none and none twice; `None` when the search
    /// has ended. Until `observe` the same policies are returned again.
    fn propose(&mut self) -> Option<Vec<Policy>>;

    /// Take the scores of the policies last proposed, in their order; lower is better.
    ///
    /// # Errors
    /// Nothing proposed, another number of scores, or one that is not finite. The search is then as
    /// it was, and the right scores may follow.
    fn observe(&mut self, scores: &[f64]) -> Result<(), SearchError>;

    /// Return the policy with the lowest score within the limit, once the search has ended.
    ///
    /// # Errors
    /// The search has not ended.
    fn result(&self) -> Result<SearchResult, SearchError>;

    /// Return the network.
    fn network(&self) -> &Network;

    /// Return the limit on the cost.
    fn limit(&self) -> u64;

    /// Return how many policies are proposed and wait for their scores.
    fn num_proposed(&self) -> usize;

    /// Return whether the search has ended.
    fn is_done(&self) -> bool;

    /// Return the steps so far.
    fn trace(&self) -> &[TraceStep];
}

/// Settings of a search. A strategy takes those that it knows, and leaves the others unread.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Where the search begins; the largest candidates when `None`.
    pub start: Option<Policy>,
    /// Weight of the normalised score against the normalised cost saved (paper: 1.5).
    pub error_weight: f64,
    /// Most policies whose score the search may ask for; `None` is no limit.
    /// A step that does not fit is not begun.
    pub evaluations: Option<u64>,
    /// Policies that are scored first, those within the target, together with the start; with none
    /// the start is not scored either.
    pub anchors: Vec<Policy>,
    /// From how many of the anchors, the best first, moves up start too. A descent sees the target
    /// only at its end, where the steps are few and, under noisy scores, partly chance; a climb
    /// starts from a policy that scored well.
    pub climbs: u64,
    /// Most policies that exchanges may ask for on top of the other stages; 0 turns them off.
    pub exchange_limit: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            start: None,
            error_weight: 1.5,
            evaluations: None,
            anchors: Vec::new(),
            climbs: 0,
            exchange_limit: 0,
        }
    }
}

/// Sets up a search for the policy with the lowest score whose cost is within a limit.
type Create = fn(Arc<Network>, u64, Options) -> Result<Box<dyn Strategy>, SearchError>;

/// The strategies by name; the first is the default.
const STRATEGIES: [(&str, Create); 1] = [("greedy", |network, limit, options| {
    Ok(Box::new(GreedySearch::new(network, limit, options)?))
})];

/// Return the names of the strategies, the default first.
pub fn names() -> impl ExactSizeIterator<Item = &'static str> {
    STRATEGIES.iter().map(|&(name, _)| name)
}

/// Set up a search by the name of its strategy.
///
/// # Errors
/// No strategy of that name, or whatever the strategy refuses: a limit below the smallest reachable
/// cost, or options that it cannot use.
pub fn create(
    name: &str,
    network: Arc<Network>,
    limit: u64,
    options: Options,
) -> Result<Box<dyn Strategy>, SearchError> {
    let Some((_, create)) = STRATEGIES.iter().find(|(known, _)| *known == name) else {
        let known = names().collect::<Vec<_>>().join(", ");
        return Err(SearchError::UnknownStrategy { name: name.to_owned(), known });
    };
    create(network, limit, options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Layer;

    fn network() -> Arc<Network> {
        let layer = Layer::new("conv1", &[2, 4], &[8], &[vec![3], vec![5]]).unwrap();
        Arc::new(Network::new(vec![layer]).unwrap())
    }

    #[test]
    fn every_name_creates_a_search_that_ends_within_the_limit() {
        for name in names() {
            let mut search = create(name, network(), 4, Options::default()).unwrap();
            assert!(!search.is_done());
            while let Some(policies) = search.propose() {
                assert_eq!(search.num_proposed(), policies.len());
                search.observe(&vec![1.0; policies.len()]).unwrap();
            }
            assert!(search.is_done());
            assert_eq!((search.limit(), search.network()), (4, &*network()));
            let result = search.result().unwrap();
            assert_eq!((result.cost, result.policy), (3, Policy::smallest(&network())));
            assert_eq!(result.trace, search.trace());
        }
    }

    #[test]
    fn unknown_name_is_refused_with_those_there_are() {
        let found = create("luck", network(), 4, Options::default()).unwrap_err().to_string();
        assert!(found.starts_with("strategy luck is not among greedy"), "{found}");
    }
}
