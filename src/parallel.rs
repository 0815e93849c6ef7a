//! Work on the files of a set, on all cores where there is enough of it. Starting threads takes longer than checking a few files, and
//! a supervisor of one node wants none.

use rayon::prelude::*;

/// Fewer files than this are left to the thread that has them: about what two cores check in the time that starting threads takes.
const MANY: usize = 32;

/// What becomes of each item, in their order; `files` is how many files the work is about.
pub(crate) fn each<I, U, T>(files: usize, items: I, of: impl Fn(U) -> T + Send + Sync) -> Vec<T>
where
    I: IntoIterator<Item = U> + IntoParallelIterator<Item = U>,
    U: Send,
    T: Send,
{
    if files < MANY {
        items.into_iter().map(of).collect()
    } else {
        items.into_par_iter().map(of).collect()
    }
}

/// Does two things.
pub(crate) fn both<A: Send, B: Send>(
    files: usize,
    a: impl FnOnce() -> A + Send,
    b: impl FnOnce() -> B + Send,
) -> (A, B) {
    if files < MANY {
        (a(), b())
    } else {
        rayon::join(a, b)
    }
}

/// Frees what many files left without waiting for it.
pub(crate) fn free<T: Send + 'static>(files: usize, what: T) {
    if files < MANY {
        drop(what);
    } else {
        rayon::spawn(move || drop(what));
    }
}
