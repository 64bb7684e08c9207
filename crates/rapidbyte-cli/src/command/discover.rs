//! `discover`: what a source has.

use super::Context;
use crate::amounts;
use crate::args::PipelineArgs;
use crate::failure::{Failure, Outcome};
use crate::style::Style;
use crate::table::{Align, Table, printable};
use rapidbyte_engine::StreamInfo;
use rapidbyte_types::SyncMode;
use serde_json::{Value, json};

pub(crate) async fn run(context: &Context, args: &PipelineArgs) -> Outcome {
    let loaded = context.load(&args.pipeline)?;
    let work = async { loaded.engine.discover(&loaded.plan).await.map_err(Failure::from) };
    let streams = loaded.signals.unless_stopped(work).await?;
    if context.printer.is_json() {
        return context.printer.json(&json!({ "streams": streams.iter().map(document).collect::<Vec<_>>() }));
    }
    if streams.is_empty() {
        context.printer.note("the source has no streams that this user may read\n");
        return Ok(());
    }
    context.printer.data(&render(&streams, context.printer.out()))
}

fn document(stream: &StreamInfo) -> Value {
    let columns: Vec<Value> = stream
        .columns
        .iter()
        .map(|column| {
            json!({
                "name": column.name,
                "type": column.data_type,
                "source_type": column.source_type,
                "nullable": column.nullable,
            })
        })
        .collect();
    json!({
        "namespace": stream.name.namespace,
        "name": stream.name.name,
        "kind": stream.kind,
        "primary_key": stream.primary_key,
        "cursor_candidates": stream.cursor_candidates,
        "sync_modes": stream.sync_modes.iter().map(|mode: &SyncMode| mode.as_str()).collect::<Vec<_>>(),
        "estimated_rows": stream.estimated_rows,
        "estimated_bytes": stream.estimated_bytes,
        "columns": columns,
    })
}

fn render(streams: &[StreamInfo], style: Style) -> String {
    let mut text = String::new();
    for stream in streams {
        let mut facts = vec![stream.kind.clone()];
        facts.extend(stream.estimated_rows.map(|rows| format!("about {}", amounts::counted(rows, "row"))));
        facts.extend(stream.estimated_bytes.map(amounts::bytes));
        if !stream.primary_key.is_empty() {
            facts.push(format!("key {}", stream.primary_key.join(", ")));
        }
        if !stream.cursor_candidates.is_empty() {
            facts.push(format!("cursor {}", stream.cursor_candidates.join(" or ")));
        }
        facts.retain(|fact| !fact.is_empty());
        text.push_str(&format!("{} – {}\n", style.heading(&printable(&stream.name.to_string())), printable(&facts.join(" · "))));
        let mut table =
            Table::new(&[("  column", Align::Left), ("type", Align::Left), ("source type", Align::Left), ("nulls", Align::Left)]);
        for column in &stream.columns {
            let nulls = if column.nullable { "yes" } else { "no" };
            let source_type = column.source_type.clone().unwrap_or_default();
            table.row([format!("  {}", column.name), column.data_type.clone(), source_type, nulls.to_owned()]);
        }
        if !table.is_empty() {
            text.push_str(&table.render(style));
        }
        text.push('\n');
    }
    text.push_str(&format!("{}\n", amounts::counted(streams.len() as u64, "stream")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rapidbyte_engine::ColumnInfo;
    use rapidbyte_types::StreamName;

    fn stream() -> StreamInfo {
        StreamInfo {
            name: StreamName::qualified("public", "orders"),
            kind: "table".to_owned(),
            primary_key: vec!["id".to_owned()],
            cursor_candidates: vec![],
            sync_modes: vec![SyncMode::FullRefresh],
            estimated_rows: Some(1000),
            estimated_bytes: None,
            columns: vec![ColumnInfo {
                name: "id".to_owned(),
                data_type: "Int64".to_owned(),
                source_type: Some("bigint".to_owned()),
                nullable: false,
            }],
        }
    }

    #[test]
    fn a_stream_is_shown_with_its_columns() {
        assert_eq!(
            render(&[stream()], Style::plain()),
            "public.orders – table · about 1,000 rows · key id\n  \
             column  type   source type  nulls\n  id      Int64  bigint       no\n\n1 stream\n"
        );
    }

    #[test]
    fn the_same_as_data() {
        let document = document(&stream());
        assert_eq!(document["sync_modes"][0], "full_refresh");
        assert_eq!(document["columns"][0]["source_type"], "bigint");
    }
}
