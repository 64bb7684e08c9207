//! What stateful transforms go on with: their states out of the receipt that rows go on from.
//!
//! Source: `docs/design/protocol.md`, §6.13.

use rapidbyte_runtime::StateMark;
use rapidbyte_types::{ConnectorError, Receipt};
use sha2::{Digest, Sha256};

/// The mark before the state of the transform at `place`: the transforms of the list by their ids, and its own configuration. Another
/// version of a transform, and another configuration of one that keeps no state, leave places and states what they are.
pub(crate) fn mark(ids: &[&str], place: usize, config: &str) -> StateMark {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    ids.iter().for_each(|id| part(id));
    part(&place.to_string());
    part(config);
    let mut digest = [0; StateMark::BYTES];
    digest.copy_from_slice(&hash.finalize()[..StateMark::BYTES]);
    StateMark::new(digest)
}

/// The state of each transform, by place. `marks` are those of the list as the pipeline has it now, `None` for a transform without
/// state. Without a receipt all begin.
///
/// # Errors
/// `transforms_changed` if the receipt is not of this list: rows would be made in two ways.
pub(crate) fn restore(marks: &[Option<StateMark>], receipt: Option<&Receipt>) -> Result<Vec<Option<Vec<u8>>>, ConnectorError> {
    let Some(receipt) = receipt else { return Ok(vec![None; marks.len()]) };
    let sealed = |place: usize| receipt.transform_state.iter().find(|(of, _)| *of as usize == place).map(|(_, sealed)| sealed);
    let stray = receipt.transform_state.iter().any(|(of, _)| !matches!(marks.get(*of as usize), Some(Some(_))));
    let states = marks.iter().enumerate().map(|(place, mark)| match (mark, sealed(place)) {
        (None, _) => Some(None),
        (Some(mark), Some(sealed)) => mark.open(sealed).ok(),
        (Some(_), None) => None,
    });
    let states: Option<Vec<_>> = states.collect();
    states.filter(|_| !stray).ok_or_else(|| {
        let message = "what was loaded so far was made by another list of transforms, or with another configuration of one that keeps a \
                       state";
        ConnectorError::config("transforms_changed", message).with_hint("say the transforms as they were")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(transform_state: Vec<(u32, Vec<u8>)>) -> Receipt {
        Receipt {
            stream: 0,
            generation: 1,
            partition: "0".into(),
            epoch: 1,
            seq: 1,
            position: None,
            rows: 1,
            bytes: 1,
            last: false,
            transform_state,
            committed_at_ms: 1,
        }
    }

    #[test]
    fn each_transform_goes_on_with_what_it_gave() {
        let ids = ["a/filter", "a/number", "a/number"];
        let marks = [None, Some(mark(&ids, 1, "{}")), Some(mark(&ids, 2, "{}"))];
        assert_eq!(restore(&marks, None), Ok(vec![None, None, None]));
        let seal = |place: usize, state: Option<&[u8]>| {
            (place as u32, marks[place].expect("a stateful one").seal(state.map(<[u8]>::to_vec)))
        };
        let whole = receipt(vec![seal(1, Some(b"one")), seal(2, None)]);
        assert_eq!(restore(&marks, Some(&whole)), Ok(vec![None, Some(b"one".to_vec()), None]));
    }

    #[test]
    fn a_receipt_of_another_list_is_refused() {
        let ids = ["a/filter", "a/number"];
        let at = |config: &str| mark(&ids, 1, config);
        let given = receipt(vec![(1, at("{}").seal(Some(b"7".to_vec())))]);
        let refused = |marks: &[Option<StateMark>], receipt: &Receipt| {
            let error = restore(marks, Some(receipt)).expect_err("another list");
            assert_eq!(error.code, "transforms_changed");
        };
        assert!(restore(&[None, Some(at("{}"))], Some(&given)).is_ok());
        // Another configuration, other neighbours, another place.
        refused(&[None, Some(at("{\"key\":[\"x\"]}"))], &given);
        refused(&[None, Some(mark(&["a/mask", "a/number"], 1, "{}"))], &given);
        refused(&[Some(mark(&["a/number", "a/filter"], 0, "{}")), None], &given);
        refused(&[Some(mark(&["a/number"], 0, "{}"))], &given);
        // Gone, or come later than the rows that are there.
        refused(&[None], &given);
        refused(&[], &given);
        refused(&[None, None], &given);
        refused(&[None, Some(at("{}"))], &receipt(Vec::new()));
        assert_eq!(restore(&[None, None], Some(&receipt(Vec::new()))), Ok(vec![None, None]));
    }
}
