//! What encoding costs in instructions. `cargo xtask bench instructions` runs these under callgrind, which counts inside
//! [`counted`] and nowhere else. The rows are made here, so that the figures depend on nothing but the code.

use super::{Codec, Rows};
use crate::types::Wire;
use arrow_array::types::{Decimal128Type, TimestampMicrosecondType};
use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, PrimitiveArray, RecordBatch, StringArray,
};
use std::hint::black_box;
use std::sync::Arc;

const ROWS: u64 = 10_000;
/// As when loading.
const MESSAGE_BYTES: usize = 512 << 10;

/// Where callgrind counts.
#[inline(never)]
fn counted(batch: &RecordBatch, codecs: &[Codec], buffer: &mut Vec<u8>) {
    let mut rows = Rows::new(black_box(batch), codecs).expect("columns of these types");
    while rows.fill(buffer, MESSAGE_BYTES).expect("rows") {
        black_box(&buffer);
        buffer.clear();
    }
}

/// Numbers without a library: the same on every machine.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % end).cast_signed()
    }
}

fn measure(columns: Vec<(Wire, ArrayRef)>) {
    let codecs: Vec<Codec> = columns.iter().map(|(wire, _)| Codec { wire: wire.clone(), postgres: true }).collect();
    let named = columns.into_iter().enumerate().map(|(index, (_, array))| (format!("c{index}"), array));
    let batch = RecordBatch::try_from_iter(named).expect("a batch");
    let mut buffer = Vec::with_capacity(2 * MESSAGE_BYTES);
    counted(&batch, &codecs, &mut buffer);
}

#[test]
#[ignore = "a measurement: `cargo xtask bench instructions`"]
fn meter_copy_encode_lineitem() {
    let mut numbers = Numbers(42);
    let mut long = |end: u64| -> (Wire, ArrayRef) {
        (Wire::Int8, Arc::new(Int64Array::from_iter_values((0..ROWS).map(|_| 1 + numbers.below(end)))))
    };
    let mut columns = vec![long(250_000), long(200_000), long(10_000)];
    columns.push((Wire::Int4, Arc::new(Int32Array::from_iter_values((0..ROWS).map(|index| (index % 4 + 1) as i32)))));
    let mut numbers = Numbers(43);
    for (least, end, unit) in [(1, 49, 100), (90_000, 10_400_000, 1), (0, 11, 1), (0, 9, 1)] {
        let values = (0..ROWS).map(|_| i128::from((least + numbers.below(end)) * unit));
        let array = PrimitiveArray::<Decimal128Type>::from_iter_values(values).with_precision_and_scale(15, 2);
        columns.push((Wire::Numeric, Arc::new(array.expect("values of this precision"))));
    }
    let same =
        |text: &'static str| -> (Wire, ArrayRef) { (Wire::Text, Arc::new(StringArray::from_iter_values((0..ROWS).map(|_| text)))) };
    columns.extend([same("R"), same("O")]);
    for _ in 0..3 {
        let days = (0..ROWS).map(|_| 8000 + numbers.below(2500) as i32);
        columns.push((Wire::Date, Arc::new(Date32Array::from_iter_values(days))));
    }
    columns.extend([same("DELIVER IN PERSON        "), same("REG AIR   ")]);
    let comment = "carefully final deposits sleep quickly across the bold ideas";
    let comments = (0..ROWS).map(|_| {
        let (from, length) = (numbers.below(15) as usize, 10 + numbers.below(33) as usize);
        &comment[from..(from + length).min(comment.len())]
    });
    columns.push((Wire::Text, Arc::new(StringArray::from_iter_values(comments))));
    measure(columns);
}

#[test]
#[ignore = "a measurement: `cargo xtask bench instructions`"]
fn meter_copy_encode_narrow() {
    let mut numbers = Numbers(42);
    let moments = (0..ROWS.cast_signed()).map(|index| 1_704_067_200_000_000 + index * 37_000);
    let moments = PrimitiveArray::<TimestampMicrosecondType>::from_iter_values(moments).with_timezone("UTC");
    let names = (0..ROWS).map(|_| format!("event_{}", numbers.below(1000)));
    let names = StringArray::from_iter_values(names);
    let floats = Float64Array::from_iter_values((0..ROWS).map(|_| numbers.below(1_000_000) as f64 * 1.25));
    let flags = BooleanArray::from_iter((0..ROWS).map(|_| Some(numbers.below(10) > 0)));
    measure(vec![
        (Wire::Int8, Arc::new(Int64Array::from_iter_values(0..ROWS.cast_signed()))),
        (Wire::Timestamp { zoned: true }, Arc::new(moments)),
        (Wire::Text, Arc::new(names)),
        (Wire::Float8, Arc::new(floats)),
        (Wire::Bool, Arc::new(flags)),
    ]);
}
