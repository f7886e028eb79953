//! Memory with keys, kept out of swap.

use std::ops::Deref;

/// A value whose own memory is locked where the system permits so much of it (`RLIMIT_MEMLOCK`).
///
/// What the value owns elsewhere is not locked, so its keys must stand inside of it. Pages are locked whole, and a page
/// that two values share is free again when the first is dropped; those with keys live as long as their process.
pub struct Locked<T> {
    // Dropped first, so that it is wiped while it is still locked.
    value: Box<T>,
    _lock: Option<region::LockGuard>,
}

impl<T> Locked<T> {
    /// Lock a value.
    #[must_use]
    pub fn new(value: T) -> Self {
        let value = Box::new(value);
        let lock = region::lock(&raw const *value, size_of::<T>()).ok();
        Self { value, _lock: lock }
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Return what is locked of this process.
    fn locked_kilobytes() -> Option<u64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find(|line| line.starts_with("VmLck:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    #[test]
    fn a_value_is_locked_as_long_as_it_lives() {
        let before = locked_kilobytes();
        let locked = Locked::new([7_u8; 16_384]);
        assert!(locked_kilobytes() >= before.map(|kilobytes| kilobytes + 16), "little memory may be locked here");
        assert_eq!(locked[16_383], 7);
        drop(locked);
        assert!(locked_kilobytes() < before.map(|kilobytes| kilobytes + 16));
    }
}
