//! Secrets never sing: not in logs, errors, results, or anything written.

use rapidbyte_testkit::{Canary, Finished, Postgres, Project};

struct Watch<'a> {
    project: &'a Project,
    canaries: Vec<Canary>,
    cases: usize,
}

impl Watch<'_> {
    #[track_caller]
    fn heard(&mut self, what: &str, finished: &Finished) {
        self.cases += 1;
        for canary in &self.canaries {
            for (place, text) in [("stdout", &finished.stdout), ("stderr", &finished.stderr)] {
                let line = text.lines().find(|line| canary.sings_in(line.as_bytes())).unwrap_or_default();
                assert!(!canary.sings_in(text.as_bytes()), "{what}: {place} holds a secret: {line}");
            }
            // The user wrote the pipeline; everything else is ours.
            let found =
                canary.sings_below(self.project.dir(), &[&self.project.path("pipeline.yaml"), &self.project.path("key.pem")]);
            assert!(found.is_empty(), "{what}: secrets in {found:?}");
        }
    }

    /// Every command over the pipeline, with everything logged.
    #[track_caller]
    fn watch(&mut self, what: &str, environment: &[(&str, &str)]) -> Vec<Finished> {
        let mut all = Vec::new();
        for command in [&["check", "pipeline.yaml"][..], &["discover", "pipeline.yaml"], &["run", "pipeline.yaml", "--peek", "1"]] {
            for output in ["text", "json"] {
                let mut run = self.project.rapidbyte(command).args(&["--log-level", "trace", "--output", output]);
                for (name, value) in environment {
                    run = run.env(name, *value);
                }
                let finished = run.finish();
                assert!(finished.code.is_some_and(|code| code != 1), "{what} fails, and not as a defect: {}", finished.told());
                self.heard(&format!("{what}: {command:?} {output}"), &finished);
                all.push(finished);
            }
        }
        all
    }
}

fn yaml(port: u16, source: &str, destination: &str, salt: &str) -> String {
    format!(
        "version: \"1.0\"\npipeline: secrets\nsource:\n  use: source-postgres\n  config: {{ host: 127.0.0.1, port: {port}, {source} }}\n\
         \x20 streams: [ {{ name: public.t }} ]\ntransforms:\n  - use: transform-mask\n    config: {salt}\n\
         destination:\n  use: dest-postgres\n  config: {{ host: 127.0.0.1, port: {port}, schema: moved, {destination} }}\n  write_mode: replace\n\
         resources: {{ max_retries: 0 }}\n"
    )
}

#[test]
fn secrets_are_nowhere() {
    let server = Postgres::shared();
    let database = server.database("secrets");
    let [read, write, salt, wrong, key] = ["read", "write", "salt", "wrong", "key"].map(Canary::new);
    let (reader, writer) = (format!("reader_{}", database.name()), format!("writer_{}", database.name()));
    database.sql(&format!(
        "CREATE ROLE {reader} LOGIN SUPERUSER PASSWORD '{}'; CREATE ROLE {writer} LOGIN SUPERUSER PASSWORD '{}';
         CREATE TABLE t AS SELECT i AS id, 'name ' || i AS name FROM generate_series(1, 100) i;",
        read.value(),
        write.value()
    ));
    let side = |user: &str, password: &str| format!("user: {user}, password: \"{password}\", database: {}", database.name());
    let mask = format!("{{ fields: [name], method: hash, salt: \"{}\" }}", salt.value());
    let project = Project::empty();
    let mut watch =
        Watch { project: &project, canaries: vec![read.clone(), write.clone(), salt, wrong.clone(), key.clone()], cases: 0 };
    let port = server.port();

    project.write("pipeline.yaml", yaml(port, &side(&reader, read.value()), &side(&writer, write.value()), &mask));
    for finished in watch.watch("a run that goes well", &[]) {
        let finished = finished.success();
        assert!(!finished.command.starts_with("rapidbyte run") || finished.stderr.len() > 1000, "there is a log to search");
    }
    project.write("pipeline.yaml", yaml(port, &side(&reader, "${READER}"), &side(&writer, "${WRITER}"), &mask));
    watch.watch("from the environment", &[("READER", read.value()), ("WRITER", write.value())]);
    project.write("pipeline.yaml", yaml(port, &side(&reader, wrong.value()), &side(&writer, write.value()), &mask));
    watch.watch("a wrong password", &[]);
    project.write("pipeline.yaml", yaml(port, &side(&reader, read.value()), &side(&writer, wrong.value()), &mask));
    watch.watch("a wrong password at the destination", &[]);

    let mut broken = |what: &str, text: &str| {
        project.write("pipeline.yaml", text);
        let all = watch.watch(what, &[("SECRET", wrong.value())]);
        assert!(all.iter().all(|finished| finished.code != Some(0)), "{what} is refused");
    };
    let good = yaml(port, &side(&reader, read.value()), &side(&writer, write.value()), &mask);
    let password = format!("password: \"{}\"", read.value());
    broken("an unknown key beside it", &good.replace(&password, &format!("{password}, passwort: {}", wrong.value())));
    broken("a secret where a port should be", &good.replacen(&format!("port: {port}"), "port: \"${SECRET}\"", 1));
    broken("a list where a password should be", &good.replace(&password, &format!("password: [ \"{}\" ]", read.value())));
    broken("a text that never ends", &good.replace(&password, &format!("password: \"{}", read.value())));
    broken("a URL where a file should be", &format!("{good}state: {{ connection: \"postgres://u:{}@h/db\" }}\n", wrong.value()));
    project.write("key.pem", format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", key.value()));
    let with_key = format!("{password}, sslmode: require, sslcert: key.pem, sslkey: key.pem");
    broken("a key file that is not one", &good.replace(&password, &with_key));
    assert!(watch.cases >= 10 * 6, "{}", watch.cases);
}
