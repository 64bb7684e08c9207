//! From where a read goes on: the position of its stream.

use super::horizon::XidSet;
use super::leaves::Leaves;
use super::source_changed;
use rapidbyte_sdk::{ConnectorError, CursorType, MAX_POSITION_BYTES, Position, StreamContext};
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;

/// A longer bound is not kept between runs where the horizon needs none.
const MAX_BOUND: usize = 4 << 10;

/// How far a stream has been read. Values are the server's exact texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    v: u32,
    /// The cursor's type, as SQL names it.
    #[serde(rename = "type")]
    cursor_type: String,
    /// The largest cursor that finished runs have read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bound: Option<String>,
    /// Delivered by finished runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) done: Option<XidSet>,
    /// Delivered when this run has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) goal: Option<XidSet>,
    /// Cursor and key of the last row read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<Vec<String>>,
    /// This run has read the rows without a cursor.
    #[serde(default)]
    pub(crate) nulls: bool,
    /// The table's file when the last run ended, or the first one began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<u32>,
    /// The same of a partitioned table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) leaves: Option<Leaves>,
    /// The timeline that `done` and `goal` count transactions of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeline: Option<u32>,
}

impl Place {
    /// Nothing has been read.
    pub(crate) fn start(cursor_type: &str) -> Self {
        Self {
            v: VERSION,
            cursor_type: cursor_type.to_owned(),
            bound: None,
            done: None,
            goal: None,
            at: None,
            nulls: false,
            file: None,
            leaves: None,
            timeline: None,
        }
    }

    /// Reads what an earlier run has left.
    pub(crate) fn read(stream: &StreamContext, position: &Position, cursor_type: &str) -> Result<Self, ConnectorError> {
        let place = match position.kind {
            CursorType::Json => serde_json::from_str::<Self>(&position.value).ok(),
            _ => None,
        };
        match place {
            Some(place) if place.v == VERSION && place.cursor_type == cursor_type => Ok(place),
            Some(place) if place.v == VERSION => {
                Err(source_changed(stream, &format!("the cursor was `{}` and is `{cursor_type}`", place.cursor_type)))
            }
            _ => Err(source_changed(stream, "its position was written by something else than this version of the connector")),
        }
    }

    /// Forgets what has been read.
    pub(crate) fn begin_anew(&mut self) {
        *self = Self { timeline: self.timeline, ..Self::start(&self.cursor_type) };
    }

    /// As a position; `None` where it is too long for one.
    pub(crate) fn position(&self) -> Option<Position> {
        let text = serde_json::to_string(self).ok()?;
        (text.len() <= MAX_POSITION_BYTES).then(|| Position::new(CursorType::Json, text))
    }

    /// The run that had a goal has reached it.
    pub(crate) fn reached(&mut self) {
        self.done = self.goal.take().or_else(|| self.done.take());
        self.at = None;
        self.nulls = false;
    }

    /// Forgets a bound that would leave no room for the rest.
    pub(crate) fn trim(&mut self) {
        self.bound.take_if(|bound| bound.len() > MAX_BOUND);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rapidbyte_sdk::StreamName;

    fn stream() -> StreamContext {
        StreamContext::full_refresh(StreamName::new("t"))
    }

    #[test]
    fn places_read_back_exactly() {
        let mut place = Place::start("numeric(30,10)");
        place.bound = Some("12345678901234567890.0000000001".into());
        place.at = Some(vec!["\"quoted\" \\ ü".into(), "7".into()]);
        place.done = Some(XidSet::default());
        let position = place.position().unwrap();
        assert_eq!(Place::read(&stream(), &position, "numeric(30,10)").unwrap(), place);
    }

    #[test]
    fn another_type_or_another_writer_is_a_changed_source() {
        let position = Place::start("integer").position().unwrap();
        let code = |position: &Position, of: &str| Place::read(&stream(), position, of).unwrap_err().code;
        assert_eq!(code(&position, "bigint"), "source_changed");
        assert_eq!(code(&Position::new(CursorType::Int64, "5"), "integer"), "source_changed");
        assert_eq!(code(&Position::new(CursorType::Json, "{\"v\":2}"), "integer"), "source_changed");
    }

    #[test]
    fn a_place_too_long_is_no_position() {
        let mut place = Place::start("text");
        place.at = Some(vec!["x".repeat(MAX_POSITION_BYTES)]);
        assert_eq!(place.position(), None);
        place.bound = Some("y".repeat(MAX_BOUND + 1));
        place.trim();
        place.reached();
        assert_eq!(place, Place::start("text"));
    }
}
