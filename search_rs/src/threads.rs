//! Work in parts, by the threads that torch keeps.
//!
//! torch's threads wait for work spinning, for as long as the next operation takes to come; threads
//! of our own would have to share the processor with them. `GOMP_parallel` is how compiled OpenMP
//! code starts a parallel region, in libgomp and, for its sake, in the OpenMP of LLVM and Intel.

#![expect(unsafe_code, reason = "OpenMP is a C library")]

use std::ffi::{c_uint, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

/// `void GOMP_parallel(void (*fn)(void *), void *data, unsigned num_threads, unsigned flags)`
type GompParallel = unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);

static OPENMP: OnceLock<GompParallel> = OnceLock::new();

/// Have parts run by the threads of an OpenMP library; the first call counts.
///
/// # Safety
///
/// `address` is that of `GOMP_parallel`, in a library that stays loaded.
pub unsafe fn use_openmp(address: usize) {
    // SAFETY: the caller says what lies there, and a function pointer is as large as an address.
    let function = unsafe { std::mem::transmute::<usize, GompParallel>(address) };
    OPENMP.get_or_init(|| function);
}

/// Run a function on every part, each part once, on at most so many threads.
///
/// In turn by the calling thread where no OpenMP library is known.
pub fn run<Part: Send>(parts: Vec<Part>, threads: usize, function: impl Fn(Part) + Sync) {
    let openmp = OPENMP.get().filter(|_| threads > 1 && parts.len() > 1);
    let Some(openmp) = openmp else {
        return parts.into_iter().for_each(function);
    };
    let parts: Vec<_> = parts.into_iter().map(|part| Mutex::new(Some(part))).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some(part) = part.lock().ok().and_then(|mut part| part.take()) {
                function(part);
            }
        }
    };
    let mut work: &(dyn Fn() + Sync) = &work;
    let data = (&raw mut work).cast::<c_void>();
    let threads = c_uint::try_from(threads).unwrap_or(c_uint::MAX);
    // SAFETY: the region ends before the call returns, so `work` outlives it; `call` reads it as
    // what it is. Threads share it alone, and it is `Sync`.
    unsafe { openmp(call, data, threads, 0) };
}

extern "C" fn call(data: *mut c_void) {
    // SAFETY: `run` gives a pointer to a reference that outlives the region.
    let work = unsafe { *data.cast::<&(dyn Fn() + Sync)>() };
    work();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_library_every_part_is_run_in_turn() {
        let seen = Mutex::new(Vec::new());
        run(vec![3, 1, 2], 2, |part| seen.lock().unwrap().push(part));
        assert_eq!(seen.into_inner().unwrap(), [3, 1, 2]);
    }
}
