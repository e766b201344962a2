//! Ids that the last commit gave to something else.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value};

/// What of a case its id stands for: the question, not the answer.
const QUESTION: [&str; 5] =
    ["dtype", "arguments", "exclude_from_weight_decay", "variables", "steps"];

/// The texts of the `cases.jsonl` that the last commit has in `directory`, by path below it.
///
/// `None` where there is no such commit: outside a repository, or before the first goldens.
pub(super) fn committed(directory: &Path) -> Option<BTreeMap<String, String>> {
    let listed = git(directory, &["ls-tree", "-r", "--name-only", "HEAD", "."])?;
    let cases = listed.lines().filter(|path| path.ends_with("/cases.jsonl"));
    Some(
        cases
            .filter_map(|path| {
                Some((path.to_owned(), git(directory, &["show", &format!("HEAD:./{path}")])?))
            })
            .collect(),
    )
}

/// Whether there is a commit with which the ids in `directory` can be compared.
pub(super) fn has_history(directory: &Path) -> bool {
    git(directory, &["ls-tree", "HEAD", "manifest.json"]).is_some_and(|listed| !listed.is_empty())
}

fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").current_dir(directory).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The ids of `now` that asked another question in `before`.
pub(super) fn reused(before: &str, now: &str) -> Vec<String> {
    let asked = |text: &str| -> BTreeMap<String, Value> {
        let cases = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        cases.map(|case: Map<String, Value>| (id(&case), question(&case))).collect()
    };
    let (before, now) = (asked(before), asked(now));
    let differs = |(id, question): &(&String, &Value)| {
        before.get(*id).is_some_and(|before| before != *question)
    };
    now.iter().filter(differs).map(|(id, _)| id.clone()).collect()
}

fn id(case: &Map<String, Value>) -> String {
    case.get("id").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn question(case: &Map<String, Value>) -> Value {
    let mut question: Map<String, Value> = QUESTION
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), case.get(key)?.clone())))
        .collect();
    if let Some(Value::Array(steps)) = question.get_mut("steps") {
        for step in steps.iter_mut().filter_map(Value::as_object_mut) {
            step.remove("expected");
        }
    }
    Value::Object(question)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(id: &str, rate: f64, answer: f64) -> String {
        format!(
            r#"{{"id":"{id}","comment":"","dtype":"float32","arguments":{{"learning_rate":{rate}}},"variables":[],"steps":[{{"gradients":[],"expected":{answer}}}]}}"#
        )
    }

    #[test]
    fn an_id_stands_for_one_question() {
        let before =
            format!("{}\n{}\n{}\n", case("a", 0.1, 1.0), case("b", 0.1, 1.0), case("c", 0.1, 1.0));
        let now =
            format!("{}\n{}\n{}\n", case("a", 0.1, 2.0), case("b", 0.2, 1.0), case("d", 0.3, 1.0));
        assert_eq!(reused(&before, &now), ["b"]);
    }
}
