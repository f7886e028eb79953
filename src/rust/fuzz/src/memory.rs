//! How much memory a part of the engine takes: libFuzzer only sees what is far beyond every budget.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts what each thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Count bytes that are taken or, where negative, given back.
fn count(bytes: isize) {
    let held = HELD.get().saturating_add(bytes);
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

#[allow(clippy::cast_possible_wrap, reason = "no layout is larger than isize::MAX")]
const fn size(layout: Layout) -> isize {
    layout.size() as isize
}

#[allow(unsafe_code, reason = "an allocator is unsafe")]
// SAFETY: everything is left to the allocator of the system; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(size(layout));
        // SAFETY: the caller's promises are those that the system's allocator needs.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(size(layout));
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-size(layout));
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Where it moves, both are there at the same time.
        count(isize::try_from(new_size).unwrap_or(isize::MAX));
        count(-size(layout));
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, new_size) }
    }
}

/// Do something, and fail where the thread held more than so many further bytes at any moment of it.
///
/// # Panics
///
/// It did.
pub fn within<T>(most: usize, what: &str, work: impl FnOnce() -> T) -> T {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    let taken = usize::try_from(PEAK.get() - before).unwrap_or(0);
    assert!(taken <= most, "{what} took {taken} bytes, more than {most}");
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_at_one_time_is_counted() {
        within(3_000, "two halves after each other", || {
            drop(std::hint::black_box(vec![0_u8; 2_000]));
            drop(std::hint::black_box(vec![0_u8; 2_000]));
        });
    }

    #[test]
    #[should_panic(expected = "two halves together took")]
    fn what_is_too_much_fails() {
        within(3_000, "two halves together", || {
            let halves = [vec![0_u8; 2_000], vec![0_u8; 2_000]];
            drop(std::hint::black_box(halves));
        });
    }
}
