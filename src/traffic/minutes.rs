//! A ring of values, one for each minute.

use std::array;

/// Number of a minute since the start of the process.
pub(super) type Minute = u64;

/// The values of the last `N` minutes.
#[derive(Debug)]
pub(super) struct Minutes<T, const N: usize>([Option<(Minute, T)>; N]);

impl<T, const N: usize> Default for Minutes<T, N> {
    fn default() -> Self {
        Self(array::from_fn(|_| None))
    }
}

impl<T: Default, const N: usize> Minutes<T, N> {
    /// Changes the value of a minute. One of an earlier minute in the same place is forgotten.
    pub(super) fn change(&mut self, minute: Minute, change: impl FnOnce(&mut T)) {
        let Some(slot) = self.0.get_mut(index::<N>(minute)) else { return };
        match slot {
            Some((known, value)) if *known == minute => change(value),
            _ => {
                let mut value = T::default();
                change(&mut value);
                *slot = Some((minute, value));
            }
        }
    }

    /// The values of the last `N` minutes, this one last. A minute without a value is `None`.
    pub(super) fn until(&self, minute: Minute) -> impl Iterator<Item = Option<&T>> {
        (0..N as Minute).rev().map(move |ago| {
            let wanted = minute.checked_sub(ago)?;
            let (found, value) = self.0.get(index::<N>(wanted))?.as_ref()?;
            (*found == wanted).then_some(value)
        })
    }
}

/// The place of a minute.
fn index<const N: usize>(minute: Minute) -> usize {
    usize::try_from(minute % N as Minute).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_minutes_are_known() {
        let mut minutes: Minutes<u32, 3> = Minutes::default();
        let until = |minutes: &Minutes<u32, 3>, minute| {
            minutes.until(minute).map(|value| value.copied()).collect::<Vec<_>>()
        };
        minutes.change(0, |value| *value += 1);
        assert_eq!(until(&minutes, 0), [None, None, Some(1)]);
        minutes.change(1, |value| *value += 2);
        minutes.change(1, |value| *value += 2);
        assert_eq!(until(&minutes, 1), [None, Some(1), Some(4)]);
        assert_eq!(until(&minutes, 3), [Some(4), None, None]);
        minutes.change(4, |value| *value += 7);
        assert_eq!(until(&minutes, 4), [None, None, Some(7)]);
        assert_eq!(until(&minutes, 100), [None, None, None]);
    }
}
