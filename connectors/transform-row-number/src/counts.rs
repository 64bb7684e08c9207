//! How far each key has been counted, and the form in which that travels in receipts.

use rapidbyte_sdk::{ConnectorError, MAX_TRANSFORM_STATE_BYTES};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

/// A key's values, digested: 128 bits of SHA-256. Two keys of one stream never meet by chance.
pub(crate) type KeyDigest = [u8; 16];

/// The form of the state. Another one is another release's.
const VERSION: u8 = 1;
/// A key and its count in the state.
const ENTRY_BYTES: usize = 24;

/// The numbers given so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    streams: BTreeMap<String, HashMap<KeyDigest, u64>>,
    /// What all of it takes in the state.
    bytes: usize,
}

fn damaged() -> ConnectorError {
    ConnectorError::internal("damaged_state", "the numbers of an earlier run can't be read")
        .with_hint("use the release of Rapidbyte that has run this pipeline before")
}

/// Takes so many bytes off the front.
fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], ConnectorError> {
    let (head, rest) = bytes.split_at_checked(count).ok_or_else(damaged)?;
    *bytes = rest;
    Ok(head)
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], ConnectorError> {
    take(bytes, N)?.try_into().map_err(|_| damaged())
}

impl Counts {
    /// Reads a state back; without one nothing has been counted.
    pub(crate) fn read(state: Option<&[u8]>) -> Result<Self, ConnectorError> {
        let mut counts = Self { streams: BTreeMap::new(), bytes: 1 };
        let Some(mut rest) = state else { return Ok(counts) };
        if take(&mut rest, 1)? != [VERSION] {
            return Err(damaged());
        }
        while !rest.is_empty() {
            let length = u32::from_le_bytes(take_array(&mut rest)?);
            let name = std::str::from_utf8(take(&mut rest, length as usize)?).map_err(|_| damaged())?;
            let entries = u32::from_le_bytes(take_array(&mut rest)?);
            let of = counts.of(name);
            for _ in 0..entries {
                *of.bytes += ENTRY_BYTES;
                of.keys.insert(take_array(&mut rest)?, u64::from_le_bytes(take_array(&mut rest)?));
            }
        }
        Ok(counts)
    }

    /// The state, the same bytes for the same counts.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut state = Vec::with_capacity(self.bytes);
        state.push(VERSION);
        for (name, keys) in &self.streams {
            state.extend_from_slice(&(name.len() as u32).to_le_bytes());
            state.extend_from_slice(name.as_bytes());
            state.extend_from_slice(&(keys.len() as u32).to_le_bytes());
            let mut sorted: Vec<_> = keys.iter().collect();
            sorted.sort_unstable();
            for (key, count) in sorted {
                state.extend_from_slice(key);
                state.extend_from_slice(&count.to_le_bytes());
            }
        }
        state
    }

    /// The counts of a stream.
    pub(crate) fn of(&mut self, stream: &str) -> Counter<'_> {
        let Self { streams, bytes } = self;
        if !streams.contains_key(stream) {
            *bytes += 8 + stream.len();
        }
        Counter { keys: streams.entry(stream.to_owned()).or_default(), bytes }
    }
}

/// The counts of one stream.
pub(crate) struct Counter<'a> {
    keys: &'a mut HashMap<KeyDigest, u64>,
    bytes: &'a mut usize,
}

impl Counter<'_> {
    /// The next number of a key; an error if there is no room for a new one.
    pub(crate) fn next(&mut self, key: KeyDigest) -> Result<u64, ConnectorError> {
        let known = self.keys.len();
        match self.keys.entry(key) {
            Entry::Occupied(mut count) => {
                *count.get_mut() += 1;
                Ok(*count.get())
            }
            Entry::Vacant(_) if *self.bytes + ENTRY_BYTES > MAX_TRANSFORM_STATE_BYTES => {
                let message = format!("{known} keys have numbers of their own, and there is no room for another one");
                Err(ConnectorError::config("too_many_keys", message).with_hint(
                    "number by columns with fewer values; or by `row_number() OVER (PARTITION BY …)` at the destination",
                ))
            }
            Entry::Vacant(place) => {
                *self.bytes += ENTRY_BYTES;
                place.insert(1);
                Ok(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_back_as_they_were() {
        let mut counts = Counts::read(None).unwrap();
        for (stream, key) in [("b", 1), ("a", 2), ("b", 1), ("b", 9)] {
            counts.of(stream).next([key; 16]).unwrap();
        }
        let state = counts.write();
        assert_eq!(state.len(), counts.bytes);
        let mut again = Counts::read(Some(&state)).unwrap();
        assert_eq!(again, counts);
        assert_eq!(again.of("b").next([1; 16]).unwrap(), 3);
        assert_eq!(again.of("b").next([8; 16]).unwrap(), 1);
    }

    #[test]
    fn a_damaged_state_is_refused() {
        let mut counts = Counts::read(None).unwrap();
        counts.of("orders").next([5; 16]).unwrap();
        let state = counts.write();
        for end in (0..state.len()).filter(|end| *end != 1) {
            assert_eq!(Counts::read(Some(&state[..end])).unwrap_err().code, "damaged_state", "{end}");
        }
        assert_eq!(Counts::read(Some(&[2])).unwrap_err().code, "damaged_state");
    }

    #[test]
    fn there_is_room_for_so_many_keys() {
        let mut counts = Counts::read(None).unwrap();
        let full = loop {
            let key = (counts.bytes as u128).to_le_bytes();
            match counts.of("orders").next(key) {
                Ok(number) => assert_eq!(number, 1),
                Err(error) => break error,
            }
        };
        assert_eq!(full.code, "too_many_keys");
        assert!(full.message.contains("43690 keys"), "{full}");
        let state = counts.write();
        assert!(state.len() <= MAX_TRANSFORM_STATE_BYTES);
        assert_eq!(Counts::read(Some(&state)).unwrap(), counts);
    }
}
