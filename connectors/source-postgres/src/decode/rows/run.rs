//! Many rows at once: the messages that have arrived are walked once to find every field, then each column takes its fields
//! in a loop that knows the type.
//!
//! Whatever is out of the ordinary, a value that does not fit or a malformed row among it, ends the attempt without a trace:
//! the rows are then pushed one by one, which is where splitting and errors live.

use super::{RowDecoder, State};

/// Rows taken at a time. What is known of their fields stays in the processor's nearest cache.
const ROWS: usize = 256;
/// Fields taken at a time, for wide tables.
const FIELDS: usize = 32 << 10;
/// Tag and length of a message.
const MESSAGE: usize = 5;

/// What became of the messages that have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Run {
    /// So many bytes of whole messages were taken; with none, what comes next must be pushed by itself.
    Taken(usize),
    /// Push that many payloads one by one.
    OneByOne(usize),
}

/// Where fields lie. Used again from run to run.
#[derive(Default)]
pub(super) struct Fields {
    /// Row by row, one place per column: where the field's length stands.
    places: Vec<u32>,
    /// Columns with a NULL among these rows.
    nulls: Vec<bool>,
}

/// Those of one column.
pub(in super::super) struct ColumnFields<'a> {
    bytes: &'a [u8],
    places: &'a [u32],
    columns: usize,
    column: usize,
    pub(in super::super) nulls: bool,
}

/// A value and what lies behind it.
pub(in super::super) struct FieldValue<'a> {
    pub(in super::super) value: &'a [u8],
    /// From the value's beginning to the end of all that has arrived.
    pub(in super::super) rest: &'a [u8],
}

impl<'a> ColumnFields<'a> {
    pub(in super::super) fn rows(&self) -> usize {
        self.places.len() / self.columns
    }

    #[inline]
    fn places(&self) -> impl Iterator<Item = usize> + 'a {
        let column = self.column;
        self.places.chunks_exact(self.columns).map(move |row| row[column] as usize)
    }

    /// Every value, `None` for NULL.
    #[inline]
    pub(in super::super) fn values(&self) -> impl Iterator<Item = Option<Option<FieldValue<'a>>>> {
        let bytes = self.bytes;
        self.places().map(move |at| {
            let (length, rest) = bytes.get(at..)?.split_first_chunk::<4>()?;
            match i32::from_be_bytes(*length) {
                length @ 0.. => Some(Some(FieldValue { value: rest.get(..length.cast_unsigned() as usize)?, rest })),
                _ => Some(None),
            }
        })
    }

    /// Every value of a type with a fixed length, when there are no NULLs.
    #[inline]
    pub(in super::super) fn fixed<T: Copy + Default, const N: usize>(
        &self,
        values: &mut Vec<T>,
        convert: impl Fn([u8; N]) -> Option<T>,
    ) -> Option<()> {
        let start = values.len();
        values.resize(start + self.rows(), T::default());
        for (slot, at) in values[start..].iter_mut().zip(self.places()) {
            let (length, value) = self.bytes.get(at..at + 4 + N)?.split_first_chunk::<4>()?;
            if u32::from_be_bytes(*length) as usize != N {
                return None;
            }
            *slot = convert(*value.first_chunk::<N>()?)?;
        }
        Some(())
    }
}

impl RowDecoder {
    /// Takes whole CopyData messages from the beginning of `arrived`, until the batch has `target` bytes or `max_rows` rows.
    pub(crate) fn push_run(&mut self, arrived: &[u8], target: usize, max_rows: usize) -> Run {
        let plain = matches!(self.state, State::Rows) && self.carry.is_empty() && self.tail == 0 && self.expanding.is_empty();
        let columns = self.builders.len();
        if !plain || columns == 0 {
            return Run::Taken(0);
        }
        let cap = ROWS.min(FIELDS / columns).min(max_rows.saturating_sub(self.rows)).max(1);
        let mut fields = std::mem::take(&mut self.fields);
        let walked =
            walk(arrived, columns, cap, (self.max_record, target.saturating_sub(self.bytes()), self.row_width), &mut fields);
        let taken = if walked.rows == 0 || self.take_fields(arrived, &fields).is_some() {
            self.rows += walked.rows;
            self.wire_bytes += walked.bytes - MESSAGE * walked.rows;
            Run::Taken(walked.bytes)
        } else {
            self.builders.iter_mut().for_each(|builder| builder.truncate(self.rows));
            Run::OneByOne(walked.rows)
        };
        self.fields = fields;
        taken
    }

    fn take_fields(&mut self, bytes: &[u8], fields: &Fields) -> Option<()> {
        let (columns, places) = (self.builders.len(), fields.places.as_slice());
        for (column, (builder, nulls)) in self.builders.iter_mut().zip(&fields.nulls).enumerate() {
            builder.push_fields(&ColumnFields { bytes, places, columns, column, nulls: *nulls })?;
        }
        Some(())
    }
}

/// Whole rows found.
struct Walked {
    rows: usize,
    /// With the headers of their messages.
    bytes: usize,
}

/// Finds the fields of whole rows, and stops before the first that is anything else.
fn walk(
    arrived: &[u8],
    columns: usize,
    cap: usize,
    (max_record, room, row_width): (usize, usize, usize),
    fields: &mut Fields,
) -> Walked {
    let Fields { places, nulls } = fields;
    places.clear();
    places.resize(columns * cap, 0);
    nulls.clear();
    nulls.resize(columns, false);
    let mut walked = Walked { rows: 0, bytes: 0 };
    let mut used = 0;
    // Places have 32 bits.
    let arrived = &arrived[..arrived.len().min(i32::MAX as usize)];
    for places in places.chunks_exact_mut(columns) {
        if used >= room {
            break;
        }
        let Some(end) = row(arrived, walked.bytes, max_record, places, nulls) else { break };
        walked.rows += 1;
        used += (end - walked.bytes - MESSAGE).saturating_sub(2 + 4 * columns) + row_width;
        walked.bytes = end;
    }
    places.truncate(columns * walked.rows);
    walked
}

/// Tells where the fields of the row in the message at `start` lie; gives the message's end, if it is a whole row.
#[inline]
fn row(arrived: &[u8], start: usize, max_record: usize, places: &mut [u32], nulls: &mut [bool]) -> Option<usize> {
    let [tag, l0, l1, l2, l3, c0, c1] = *arrived.get(start..)?.first_chunk::<{ MESSAGE + 2 }>()?;
    let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    if tag != b'd' || usize::from(u16::from_be_bytes([c0, c1])) != places.len() || length > max_record.saturating_add(4) {
        return None;
    }
    let bytes = arrived.get(..start.checked_add(length)?.checked_add(1)?)?;
    let mut at = start + MESSAGE + 2;
    for (column, place) in places.iter_mut().enumerate() {
        let length = i32::from_be_bytes(*bytes.get(at..)?.first_chunk()?);
        *place = at as u32;
        at += 4;
        if length >= 0 {
            // Nothing overflows: the next look at the bytes finds that there are none so far out.
            at += length.cast_unsigned() as usize;
        } else if length == -1 {
            // A mark too many, of a row that turns out to be cut, only makes a slower loop run.
            nulls[column] = true;
        } else {
            return None;
        }
    }
    (at == bytes.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::super::{DecodedColumn, Pushed};
    use super::*;
    use crate::types::{Kind, oid};
    use arrow_array::RecordBatch;
    use arrow_schema::Field;

    fn kinds() -> Vec<Kind> {
        let list = Kind::List { element: Box::new(Kind::Int4), element_oid: oid::INT4 };
        let mut kinds = vec![Kind::Bool, Kind::Int2, Kind::Int4, Kind::Int8, Kind::Float4, Kind::Float8, Kind::Oid, Kind::Money];
        kinds.extend([Kind::Decimal128 { precision: 20, scale: 2 }, Kind::Decimal256 { precision: 50, scale: 5 }, Kind::Char]);
        kinds.extend([Kind::Text, Kind::Jsonb, Kind::Bytea, Kind::Uuid, Kind::Date, Kind::Time, Kind::Timestamp]);
        kinds.extend([Kind::TimestampTz, Kind::Interval, list]);
        kinds
    }

    /// A value of the kind in its send form.
    fn value(kind: &Kind, number: u64) -> Vec<u8> {
        let text = "a naïve text of some length, and then some ".repeat(3);
        let cut = (0..=(number % 70) as usize).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        match kind {
            Kind::Bool => vec![(number % 2) as u8],
            Kind::Int2 => (number as i16).to_be_bytes().to_vec(),
            Kind::Int4 | Kind::Date | Kind::Oid => (number as i32 >> 4).to_be_bytes().to_vec(),
            Kind::Float4 => (number as f32).to_be_bytes().to_vec(),
            Kind::Float8 => (number as f64).to_be_bytes().to_vec(),
            Kind::Int8 | Kind::Money | Kind::Timestamp | Kind::TimestampTz => (number.cast_signed() >> 4).to_be_bytes().to_vec(),
            Kind::Time => (number % 86_400_000_001).to_be_bytes().to_vec(),
            Kind::Decimal128 { .. } | Kind::Decimal256 { .. } => {
                let groups: Vec<u16> = (0..number % 4).map(|at| ((number >> (10 * at)) % 10_000) as u16).collect();
                let sign: u16 = if number.is_multiple_of(5) { 0x4000 } else { 0 };
                let mut bytes = [groups.len() as u16, groups.len() as u16, sign, 0].map(u16::to_be_bytes).concat();
                bytes.splice(2..4, (groups.len() as i16 - 1).to_be_bytes());
                bytes.extend(groups.iter().flat_map(|group| group.to_be_bytes()));
                bytes
            }
            Kind::Char => vec![(number % 128) as u8],
            Kind::Jsonb => [&[1], &text.as_bytes()[..cut]].concat(),
            Kind::Uuid => u128::from(number).to_be_bytes().to_vec(),
            Kind::Interval => (u128::from(number) >> 20).to_be_bytes().to_vec(),
            Kind::List { .. } => [1, 0, oid::INT4, 2, 1, 4, number as u32, u32::MAX].map(u32::to_be_bytes).concat(),
            _ => text.as_bytes()[..cut].to_vec(),
        }
    }

    fn next(seed: &mut u64) -> u64 {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *seed >> 7
    }

    fn payloads(kinds: &[Kind], rows: usize, nulls: u64) -> Vec<Vec<u8>> {
        let mut seed = 11;
        let mut made = vec![[&b"PGCOPY\n\xff\r\n\0"[..], &[0; 8]].concat()];
        for _ in 0..rows {
            let mut row = (kinds.len() as i16).to_be_bytes().to_vec();
            for kind in kinds {
                if next(&mut seed) % 100 < nulls {
                    row.extend((-1_i32).to_be_bytes());
                } else {
                    let value = value(kind, next(&mut seed));
                    row.extend((value.len() as i32).to_be_bytes());
                    row.extend(value);
                }
            }
            made.push(row);
        }
        made.push((-1_i16).to_be_bytes().to_vec());
        made
    }

    fn decoder(kinds: &[Kind]) -> RowDecoder {
        let column = |(index, kind): (usize, &Kind)| {
            let field = Field::new(format!("c{index}"), kind.data_type(), true);
            DecodedColumn { kind: kind.clone(), field }
        };
        RowDecoder::with_tail("s.t".into(), kinds.iter().enumerate().map(column).collect(), 0, 1 << 20)
    }

    /// As the source does it, with batches of `target` bytes: in runs where that is possible, or never. `cut` = what arrives at once.
    fn decode(kinds: &[Kind], payloads: &[Vec<u8>], runs: bool, target: usize) -> (Vec<RecordBatch>, Result<(), String>, usize) {
        let messages: Vec<Vec<u8>> =
            payloads.iter().map(|row| [&b"d"[..], &(row.len() as u32 + 4).to_be_bytes(), row].concat()).collect();
        let (stream, mut decoder) = (messages.concat(), decoder(kinds));
        let (mut at, mut message, mut batches, mut in_runs, mut one_by_one) = (0, 0, Vec::new(), 0, 0_usize);
        while message < messages.len() {
            if runs && one_by_one == 0 {
                match decoder.push_run(&stream[at..], target, 300) {
                    Run::Taken(0) => {}
                    Run::Taken(bytes) => {
                        let before = at;
                        at += bytes;
                        while messages[..message].iter().map(Vec::len).sum::<usize>() < at {
                            message += 1;
                        }
                        in_runs += at - before;
                        if (decoder.bytes() >= target || decoder.rows() >= 300)
                            && let Err(error) = decoder.take_batch().map(|batch| batches.extend(batch))
                        {
                            return (batches, Err(error.message), in_runs);
                        }
                        continue;
                    }
                    Run::OneByOne(rows) => one_by_one = rows,
                }
            }
            one_by_one = one_by_one.saturating_sub(1);
            let mut payload = &payloads[message][..];
            loop {
                match decoder.push(payload) {
                    Ok(Pushed::All) => break,
                    Ok(Pushed::Split { column, taken }) => {
                        if let Err(error) = decoder.take_batch().map(|batch| batches.extend(batch)) {
                            return (batches, Err(error.message), in_runs);
                        }
                        decoder.split(column);
                        payload = &payload[taken..];
                    }
                    Err(error) => return (batches, Err(error.message), in_runs),
                }
            }
            at += messages[message].len();
            message += 1;
            if (decoder.bytes() >= target || decoder.rows() >= 300)
                && let Err(error) = decoder.take_batch().map(|batch| batches.extend(batch))
            {
                return (batches, Err(error.message), in_runs);
            }
        }
        let end = decoder.end().and_then(|()| decoder.take_batch()).map(|batch| batches.extend(batch));
        (batches, end.map_err(|error| error.message), in_runs)
    }

    #[test]
    fn batches_are_the_same_whether_rows_come_in_runs_or_one_by_one() {
        for (rows, nulls) in [(1, 0), (300, 0), (1000, 0), (1000, 3), (700, 100)] {
            let payloads = payloads(&kinds(), rows, nulls);
            for target in [1, 5000, 100_000, usize::MAX] {
                let (batches, end, in_runs) = decode(&kinds(), &payloads, true, target);
                let (expected, ended, _) = decode(&kinds(), &payloads, false, target);
                assert_eq!((batches, end), (expected, ended), "{rows} rows, {nulls} % NULL, {target} bytes");
                assert!(in_runs > 0 && rows * 50 < in_runs, "only {in_runs} bytes in runs");
            }
        }
    }

    #[test]
    fn values_beyond_their_type_split_their_column_where_they_stand() {
        let kinds = [Kind::Int4, Kind::Decimal128 { precision: 20, scale: 2 }, Kind::Text];
        let mut payloads = payloads(&kinds, 900, 5);
        let nan = [&b"\0\x03\0\0\0\x04\0\0\0\x07\0\0\0\x08"[..], &[0, 0, 0, 0, 0xc0, 0, 0, 0], b"\0\0\0\x01x"].concat();
        payloads[401] = nan;
        let (batches, end, in_runs) = decode(&kinds, &payloads, true, usize::MAX);
        let (expected, ended, _) = decode(&kinds, &payloads, false, usize::MAX);
        assert_eq!((&batches, &end), (&expected, &ended));
        // What came before the split went in runs; a column that is split does not.
        assert!(in_runs > 0);
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 900);
        assert_ne!(batches[0].schema(), batches[batches.len() - 1].schema());
    }

    #[test]
    fn malformed_rows_are_named_as_if_they_had_come_one_by_one() {
        let sound = payloads(&kinds(), 600, 2);
        let mut seed = 5;
        for _ in 0..300 {
            let mut payloads = sound.clone();
            let row = &mut payloads[1 + (next(&mut seed) % 600) as usize];
            let at = (next(&mut seed) % row.len() as u64) as usize;
            match next(&mut seed) % 3 {
                0 => row[at] ^= 1 << (next(&mut seed) % 8),
                1 => row.truncate(at),
                _ => row.insert(at, 0xff),
            }
            let (batches, end, _) = decode(&kinds(), &payloads, true, usize::MAX);
            let (expected, ended, _) = decode(&kinds(), &payloads, false, usize::MAX);
            assert_eq!((batches, end), (expected, ended));
        }
    }
}
