//! Barriers within a read.

use super::place::Place;
use crate::decode::RowDecoder;
use rapidbyte_sdk::{ConnectorError, SourceOutput};

/// Emits a barrier after a batch wherever reading could go on.
pub(crate) struct Marker {
    place: Place,
    /// Each row has a place of its own. If not, the last field after the columns says whether a row begins another cursor value.
    keyed: bool,
    /// A barrier is wanted where this cursor value ends.
    open: Option<Vec<String>>,
}

fn texts(tail: &[Option<Vec<u8>>]) -> Option<Vec<String>> {
    tail.iter().map(|field| String::from_utf8(field.clone()?).ok()).collect()
}

impl Marker {
    pub(crate) fn new(place: Place, keyed: bool) -> Self {
        Self { place, keyed, open: None }
    }

    /// Cursor and key of a row.
    fn at(&self, tail: &[Option<Vec<u8>>]) -> Option<Vec<String>> {
        texts(&tail[..tail.len() - usize::from(!self.keyed)])
    }

    pub(crate) fn barrier(&self, at: Vec<String>, output: &mut SourceOutput) -> Result<(), ConnectorError> {
        // Where it is too long reading can't go on, and the next place will do.
        let mut place = self.place.clone();
        place.at = Some(at);
        match place.position() {
            Some(position) => output.barrier(&position),
            None => Ok(()),
        }
    }

    /// So many rows have been decoded. Where the last of them is the first beyond a barrier that is wanted: what that stands for.
    pub(crate) fn boundary(&mut self, decoder: &RowDecoder, rows: usize) -> Option<Vec<String>> {
        if rows > 1 {
            // Where among them a cursor value ends is not known.
            self.open = None;
        }
        self.open.take_if(|_| rows == 1 && decoder.last_tail().and_then(|tail| tail.last()?.as_deref()) == Some(b"true"))
    }

    /// Every row decoded so far has been emitted.
    pub(crate) fn emitted(&mut self, decoder: &RowDecoder, output: &mut SourceOutput) -> Result<(), ConnectorError> {
        let Some(at) = decoder.last_tail().and_then(|tail| self.at(tail)) else { return Ok(()) };
        if self.keyed {
            return self.barrier(at, output);
        }
        self.open = Some(at);
        Ok(())
    }

    /// Cursor and key of the last row.
    pub(crate) fn end(&self, decoder: &RowDecoder) -> Option<Vec<String>> {
        decoder.last_tail().and_then(|tail| self.at(tail))
    }
}
