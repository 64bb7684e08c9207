//! Streams as a command line names them.

use crate::failure::{Failure, Outcome};
use rapidbyte_config::PipelinePlan;
use rapidbyte_types::StreamContext;

/// The streams of a pipeline that are named, in the pipeline's order; all if none is. A name without its namespace will do
/// where it fits one stream only.
///
/// # Errors
/// When a name fits no stream, or several.
pub(crate) fn named<'a>(plan: &'a PipelinePlan, names: &[String]) -> Outcome<Vec<&'a StreamContext>> {
    if names.is_empty() {
        return Ok(plan.streams.iter().collect());
    }
    let mut chosen = Vec::with_capacity(names.len());
    for name in names {
        let whole = |(_, stream): &(usize, &StreamContext)| stream.name.to_string() == *name;
        let short = |(_, stream): &(usize, &StreamContext)| stream.name.name == *name;
        let all = || plan.streams.iter().enumerate();
        let fits: Vec<_> = match all().find(whole) {
            Some(found) => vec![found],
            None => all().filter(short).collect(),
        };
        let known = plan.streams.iter().map(|stream| format!("`{}`", stream.name)).collect::<Vec<_>>().join(", ");
        match fits.as_slice() {
            [(index, _)] => chosen.push(*index),
            [] => return Err(Failure::usage(format!("the pipeline has no stream `{name}`"), format!("it has: {known}"))),
            _ => {
                return Err(Failure::usage(
                    format!("`{name}` fits several streams of the pipeline"),
                    format!("name one with its namespace: {known}"),
                ));
            }
        }
    }
    chosen.sort_unstable();
    chosen.dedup();
    Ok(chosen.into_iter().map(|index| &plan.streams[index]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn plan() -> PipelinePlan {
        let text = "version: \"1.0\"\npipeline: p\nsource:\n  use: source-datagen\n  streams: [ { name: a.t }, { name: b.t, destination: { table: other } }, { name: a.u } ]\n\
                    destination: { use: dest-stdout }\n";
        PipelinePlan::from_str(text, Path::new("p.yaml"), &|_| None).expect("a plan")
    }

    fn of(names: &[&str]) -> Result<Vec<String>, String> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let shown = |streams: Vec<&StreamContext>| streams.iter().map(|stream| stream.name.to_string()).collect();
        named(&plan(), &names).map(shown).map_err(|failure| failure.words().expect("words").what)
    }

    #[test]
    fn names_are_taken_whole_or_where_they_fit_one() {
        assert_eq!(of(&[]).expect("all").len(), 3);
        assert_eq!(of(&["a.u", "a.t", "u"]), Ok(vec!["a.t".into(), "a.u".into()]));
        assert_eq!(of(&["t"]), Err("`t` fits several streams of the pipeline".into()));
        assert_eq!(of(&["c.t"]), Err("the pipeline has no stream `c.t`".into()));
    }
}
