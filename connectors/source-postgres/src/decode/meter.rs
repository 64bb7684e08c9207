//! What decoding, and handing batches on, costs in instructions. `cargo xtask bench instructions` runs these under callgrind,
//! which counts inside [`counted`] and nowhere else. The rows are made here, so that the figures depend on nothing but the code.

use super::{DecodedColumn, Pushed, RowDecoder, Run};
use crate::types::Kind;
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::Field;
use rapidbyte_sdk::{BatchDecoder, BatchEncoder, encode_schema};
use std::hint::black_box;
use std::sync::Arc;

const ROWS: u32 = 10_000;

/// Where callgrind counts.
#[inline(never)]
fn counted<R>(act: impl FnOnce() -> R) -> R {
    act()
}

fn decode(decoder: &mut RowDecoder, arrived: &[u8]) {
    let mut rest = arrived;
    while !rest.is_empty() {
        match decoder.push_run(black_box(rest), usize::MAX, usize::MAX) {
            Run::Taken(bytes) if bytes > 0 => rest = &rest[bytes..],
            other => panic!("{other:?}"),
        }
    }
    black_box(decoder.take_batch().expect("a batch"));
}

/// Numbers without a library: the same on every machine.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

struct Row(Vec<u8>);

impl Row {
    fn new(fields: i16) -> Self {
        Self(fields.to_be_bytes().to_vec())
    }

    fn field(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    fn int8(self, value: u64) -> Self {
        self.field(&value.to_be_bytes())
    }

    fn int4(self, value: u64) -> Self {
        self.field(&(value as u32).to_be_bytes())
    }

    /// `numeric(15,2)` as the server sends it: no groups of zeros at its ends.
    fn hundredths(self, value: u64) -> Self {
        let (mut groups, mut rest) = (vec![(value % 100 * 100) as u16], value / 100);
        while rest > 0 {
            groups.insert(0, (rest % 10_000) as u16);
            rest /= 10_000;
        }
        let mut weight = groups.len() as i16 - 2;
        while groups.last() == Some(&0) {
            groups.pop();
        }
        while groups.first() == Some(&0) {
            groups.remove(0);
            weight -= 1;
        }
        if groups.is_empty() {
            weight = 0;
        }
        let mut bytes = (groups.len() as u16).to_be_bytes().to_vec();
        bytes.extend_from_slice(&weight.to_be_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 2]);
        bytes.extend(groups.iter().flat_map(|group| group.to_be_bytes()));
        self.field(&bytes)
    }
}

fn header() -> Vec<u8> {
    b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec()
}

fn measure(kinds: Vec<Kind>, rows: &[Vec<u8>]) {
    let column = |(index, kind): (usize, Kind)| {
        let field = Field::new(format!("c{index}"), kind.data_type(), false);
        DecodedColumn { kind, field }
    };
    let columns = kinds.into_iter().enumerate().map(column).collect();
    let mut decoder = RowDecoder::with_tail("public.t".into(), columns, 0, 1 << 20);
    decoder.push(&header()).expect("a header");
    // Once uncounted: builders have found their size then, as in all batches but the first.
    for row in rows {
        assert_eq!(decoder.push(row).expect("a row"), Pushed::All);
    }
    assert_eq!(decoder.take_batch().expect("a batch").map(|batch| batch.num_rows()), Some(ROWS as usize));
    let message = |row: &Vec<u8>| [&b"d"[..], &(row.len() as u32 + 4).to_be_bytes(), row].concat();
    let arrived: Vec<u8> = rows.iter().flat_map(message).collect();
    counted(|| decode(&mut decoder, &arrived));
}

#[test]
#[ignore = "a measurement: `cargo xtask bench instructions`"]
fn meter_copy_decode_lineitem() {
    let mut numbers = Numbers(42);
    let decimal = || Kind::Decimal128 { precision: 15, scale: 2 };
    let mut kinds = vec![Kind::Int8, Kind::Int8, Kind::Int8, Kind::Int4, decimal(), decimal(), decimal(), decimal()];
    kinds.extend([Kind::Text, Kind::Text, Kind::Date, Kind::Date, Kind::Date, Kind::Text, Kind::Text, Kind::Text]);
    let comment = b"carefully final deposits sleep quickly across the bold ideas";
    let rows: Vec<Vec<u8>> = (0..u64::from(ROWS))
        .map(|index| {
            let (from, length) = (numbers.below(15) as usize, 10 + numbers.below(33) as usize);
            let day = numbers.below(2500);
            let row = Row::new(16).int8(index / 4 + 1).int8(1 + numbers.below(200_000)).int8(1 + numbers.below(10_000));
            let row =
                row.int4(index % 4 + 1).hundredths(100 * (1 + numbers.below(49))).hundredths(90_000 + numbers.below(10_400_000));
            let row = row.hundredths(numbers.below(11)).hundredths(numbers.below(9)).field(b"R").field(b"O");
            let row = row.int4(day).int4(day + 30).int4(day + numbers.below(30)).field(b"DELIVER IN PERSON        ");
            row.field(b"REG AIR   ").field(&comment[from..(from + length).min(comment.len())]).0
        })
        .collect();
    measure(kinds, &rows);
}

#[test]
#[ignore = "a measurement: `cargo xtask bench instructions`"]
fn meter_copy_decode_narrow() {
    let mut numbers = Numbers(42);
    let kinds = vec![Kind::Int8, Kind::TimestampTz, Kind::Text, Kind::Float8, Kind::Bool];
    let rows: Vec<Vec<u8>> = (0..u64::from(ROWS))
        .map(|index| {
            let name = format!("event_{}", numbers.below(1000));
            let row = Row::new(5).int8(index).int8(757_382_400_000_000 + index * 37_000).field(name.as_bytes());
            row.field(&(numbers.below(1_000_000) as f64 * 1.25).to_be_bytes()).field(&[u8::from(numbers.below(10) > 0)]).0
        })
        .collect();
    measure(kinds, &rows);
}

/// Sixteen columns: numbers, and texts of 20 bytes.
fn batch() -> RecordBatch {
    let column = |index: i64| -> ArrayRef {
        let rows = 0..i64::from(ROWS);
        match index % 4 {
            0 | 1 => Arc::new(Int64Array::from_iter_values(rows.map(|row| row * index))),
            2 => Arc::new(Float64Array::from_iter_values(rows.map(|row| row as f64))),
            _ => Arc::new(StringArray::from_iter_values(rows.map(|row| format!("{row:020}")))),
        }
    };
    RecordBatch::try_from_iter((0..16).map(|index| (format!("c{index}"), column(index)))).expect("a batch")
}

#[test]
#[ignore = "a measurement: `cargo xtask bench instructions`"]
fn meter_ipc_encode() {
    let batch = batch();
    let mut encoder = BatchEncoder::new(batch.schema()).expect("an encoder");
    encoder.encode(&batch).expect("encoded");
    black_box(counted(|| encoder.encode(black_box(&batch)).expect("encoded")));
}

#[test]
#[ignore = "a measurement: `cargo xtask bench instructions`"]
fn meter_ipc_decode() {
    let batch = batch();
    let mut encoder = BatchEncoder::new(batch.schema()).expect("an encoder");
    let bytes = encoder.encode(&batch).expect("encoded");
    let mut decoder = BatchDecoder::new(&encode_schema(&batch.schema()).expect("a schema")).expect("a decoder");
    let again = encoder.encode(&batch).expect("encoded");
    assert_eq!(decoder.decode(bytes).expect("decoded"), batch);
    black_box(counted(|| decoder.decode(black_box(again)).expect("decoded")));
}
