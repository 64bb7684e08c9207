//! The state of a transform as it stands in a barrier and its receipt: behind a mark of the pipeline that it belongs to.

/// Names the list of transforms that a state belongs to. Under another mark it is never read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateMark([u8; Self::BYTES]);

/// A state that does not stand behind the mark it was asked for under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OtherMark;

impl StateMark {
    /// Bytes of a mark.
    pub const BYTES: usize = 16;

    /// A mark made of a digest.
    pub const fn new(digest: [u8; Self::BYTES]) -> Self {
        Self(digest)
    }

    /// What travels. That a transform had no state is said too: an entry that is missing is another list's.
    pub fn seal(&self, state: Option<Vec<u8>>) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(Self::BYTES + 1 + state.as_ref().map_or(0, Vec::len));
        sealed.extend_from_slice(&self.0);
        sealed.push(u8::from(state.is_some()));
        sealed.extend_from_slice(&state.unwrap_or_default());
        sealed
    }

    /// What the transform gave.
    ///
    /// # Errors
    /// When it was sealed under another mark.
    pub fn open(&self, sealed: &[u8]) -> Result<Option<Vec<u8>>, OtherMark> {
        match sealed.strip_prefix(&self.0).and_then(<[u8]>::split_first) {
            Some((0, [])) => Ok(None),
            Some((1, state)) => Ok(Some(state.to_vec())),
            _ => Err(OtherMark),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_come_back_under_their_own_mark_only() {
        let mark = StateMark::new([7; 16]);
        for state in [None, Some(Vec::new()), Some(vec![0, 1, 255])] {
            let sealed = mark.seal(state.clone());
            assert_eq!(mark.open(&sealed), Ok(state));
            assert_eq!(StateMark::new([8; 16]).open(&sealed), Err(OtherMark));
        }
        let behind = |rest: &[u8]| [&[7; 16], rest].concat();
        for damaged in [vec![7; 16], vec![7; 3], Vec::new(), behind(&[0, 1]), behind(&[2])] {
            assert_eq!(mark.open(&damaged), Err(OtherMark));
        }
    }
}
