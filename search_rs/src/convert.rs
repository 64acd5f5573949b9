//! Counts and costs as floats, and wide counts as places.

/// Return a cost as a float.
#[expect(clippy::cast_precision_loss, reason = "shares and bounds need no more than 53 bits")]
pub(crate) fn cost_as_float(cost: u64) -> f64 {
    cost as f64
}

/// Return a count as a float.
#[expect(clippy::cast_precision_loss, reason = "what is counted are far fewer than 2^53")]
pub(crate) fn count_as_float(count: usize) -> f64 {
    count as f64
}

/// Return a count as a place or a length; one that is too large for that as the largest there is.
pub(crate) fn as_place(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
