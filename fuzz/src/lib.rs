//! What the targets share: a bound on memory, and input cut into pieces.
//!
//! Each target feeds one parser of foreign bytes and compares what it says with a reference or
//! with what must hold of it; that it does not panic is the least. Inputs are plain bytes, so
//! that a corpus can be read and written by hand.

use std::alloc::System;

use cap::Cap;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// What one input may make us hold, beside what is held already.
const ROOM_BYTES: usize = 64 << 20;

/// Runs one input; an allocation beyond the bound fails and ends the process.
pub fn bounded(run: impl FnOnce()) {
    let room = ALLOCATOR.allocated().saturating_add(ROOM_BYTES);
    ALLOCATOR.set_limit(room).expect("there is room at first");
    run();
    ALLOCATOR.set_limit(usize::MAX).expect("no limit");
}

/// `bytes` in pieces whose lengths come from `seed`, as a network would deliver them.
pub fn pieces(bytes: &[u8], seed: u8) -> impl Iterator<Item = &[u8]> {
    let (mut rest, mut state) = (bytes, u32::from(seed).wrapping_mul(2_654_435_761) | 1);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let most = if seed == 0 { 1 } else { usize::from(seed) };
        let count = 1 + (state >> 16) as usize % most;
        let (piece, after) = rest.split_at(count.min(rest.len()));
        rest = after;
        Some(piece)
    })
}

/// The first byte, which decides how the others are used.
pub fn led(data: &[u8]) -> (u8, &[u8]) {
    data.split_first()
        .map_or((0, data), |(first, rest)| (*first, rest))
}

/// The text up to the first line break, and what follows.
pub fn first_line(text: &str) -> (&str, &str) {
    text.split_once('\n').unwrap_or((text, ""))
}
