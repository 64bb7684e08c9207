//! What the files hold.

use super::*;

#[test]
fn parquet_rows_come_back_as_they_went_in() {
    let mut pipeline = Pipeline::new(WriteMode::Append);
    let summary = pipeline.loaded();
    assert_eq!(summary.rows, 130);
    assert!(summary.location.ends_with("/public.orders/*.parquet"), "{}", summary.location);
    let names: Vec<String> = pipeline.visible().into_keys().collect();
    assert_eq!(names, ["part-000001-0-000001.parquet", "part-000001-0-000002.parquet", "part-000001-1-000001.parquet"]);
    assert_eq!(read_parquet(&pipeline.root().join("public.orders").join(&names[0])), [rows(0, 40)]);
}
