//! Proves that a directory of goldens is whole and in its canonical form.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use goldstep_conformance::golden::{Family, Golden, Traces};
use goldstep_core::DType;
use rayon::prelude::*;
use serde_json::Value;

use super::{decimal, ids};

/// So many problems are listed.
const MOST_PROBLEMS: usize = 50;

const CASE: &str = include_str!("../../../golden/schema/goldstep-case-1.schema.json");
const CLASS: &str = include_str!("../../../golden/schema/class.schema.json");
const INDEX: &str = include_str!("../../../golden/schema/index.schema.json");
const INPUTS: &str = include_str!("../../../golden/schema/inputs.schema.json");
const MANIFEST: &str = include_str!("../../../golden/schema/manifest.schema.json");
const SERIES: &str = include_str!("../../../golden/schema/series.schema.json");
const STATES: &str = include_str!("../../../golden/schema/states.schema.json");

/// One thing that is not as it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    path: String,
    /// Counted from 1; 0 where it is about the whole file.
    line: usize,
    text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            // The loader names the place itself.
            0 if self.path.is_empty() => formatter.write_str(&self.text),
            0 => write!(formatter, "{}: {}", self.path, self.text),
            line => write!(formatter, "{}:{line}: {}", self.path, self.text),
        }
    }
}

/// Everything that is wrong with the goldens in `directory`: schema, sums, order, numbers, counts,
/// unlisted files, and ids that the last commit gave to something else.
///
/// # Errors
/// A directory without a readable manifest.
pub(super) fn lint(directory: &Path) -> Result<Vec<Problem>> {
    let path = directory.join("manifest.json");
    let text = fs::read_to_string(&path)
        .with_context(|| format!("{} must be readable", path.display()))?;
    let (files, loaded) = rayon::join(|| lint_files(directory, &text), || lint_contents(directory));
    let mut problems = files?;
    problems.extend(loaded);
    problems.truncate(MOST_PROBLEMS);
    Ok(problems)
}

/// What the loader proves: sums of files and series, counts, ids that refer to something.
fn lint_contents(directory: &Path) -> Vec<Problem> {
    match Golden::load(directory) {
        Ok(golden) => golden.families().iter().filter_map(not_packed).collect(),
        Err(error) => vec![Problem { path: String::new(), line: 0, text: error.to_string() }],
    }
}

fn not_packed(family: &Family) -> Option<Problem> {
    let Traces::Cases(cases) = &family.traces else { return None };
    let first = cases.first().filter(|_| !family.packed)?;
    let text = format!("case {} must be listed in the manifest, got a file of its own", first.id);
    Some(Problem { path: family.id.clone(), line: 0, text })
}

/// A file that the manifest lists.
#[derive(Debug)]
struct Listed {
    path: String,
    dtype: DType,
}

fn lint_files(directory: &Path, manifest: &str) -> Result<Vec<Problem>> {
    let schemas = Schemas::new()?;
    let mut problems = Vec::new();
    check_line(&schemas.manifest, "manifest.json", 0, manifest, None, &mut problems);
    let manifest: Value = serde_json::from_str(manifest).unwrap_or_default();
    let listed = listed(directory, &manifest, &mut problems);
    check_unlisted(directory, &listed, &mut problems);
    let committed = ids::committed(directory).unwrap_or_default();
    let found: Vec<Vec<Problem>> = listed
        .par_iter()
        .map(|file| {
            let Ok(text) = fs::read_to_string(directory.join(&file.path)) else {
                // The loader says why.
                return Vec::new();
            };
            let mut problems = lint_file(&schemas, file, &text);
            if let Some(before) = committed.get(&file.path) {
                problems.extend(ids::reused(before, &text).into_iter().map(|id| Problem {
                    path: file.path.clone(),
                    line: 0,
                    text: format!("a changed case must have a new id, got {id} again"),
                }));
            }
            problems
        })
        .collect();
    problems.extend(found.into_iter().flatten());
    Ok(problems)
}

/// The files of the manifest, with the order of families and files checked.
fn listed(directory: &Path, manifest: &Value, problems: &mut Vec<Problem>) -> Vec<Listed> {
    let mut listed = Vec::new();
    let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let families = array(&manifest["families"]);
    let names: Vec<String> = families.iter().map(|family| text(&family["id"])).collect();
    check_order("manifest.json", "families", &names, problems);
    for family in &families {
        let paths: Vec<String> =
            array(&family["files"]).iter().map(|file| text(&file["path"])).collect();
        check_order("manifest.json", "files", &paths, problems);
        let dtype = inputs_dtype(directory, &text(&family["id"]));
        listed.extend(paths.into_iter().map(|path| Listed { path, dtype }));
    }
    listed
}

/// The element type of a grid; that of a case stands in the case.
fn inputs_dtype(directory: &Path, family: &str) -> DType {
    let inputs = fs::read_to_string(directory.join(family).join("inputs.json"));
    inputs.map_or(DType::Float64, |inputs| dtype_of(&inputs))
}

/// The type that a record names near its beginning.
fn dtype_of(record: &str) -> DType {
    let named = record.split_once("\"dtype\":\"").and_then(|(_, rest)| rest.split_once('"'));
    match named.map(|(name, _)| name) {
        Some("float32") => DType::Float32,
        Some("float16") => DType::Float16,
        Some("bfloat16") => DType::Bfloat16,
        _ => DType::Float64,
    }
}

fn check_order(path: &str, what: &str, names: &[String], problems: &mut Vec<Problem>) {
    if let Some(pair) = names.windows(2).find(|pair| pair[0] >= pair[1]) {
        let text = format!("{what} must ascend, got {} after {}", pair[1], pair[0]);
        problems.push(Problem { path: path.to_owned(), line: 0, text });
    }
}

fn check_unlisted(directory: &Path, listed: &[Listed], problems: &mut Vec<Problem>) {
    let known: BTreeSet<PathBuf> = listed
        .iter()
        .map(|file| PathBuf::from(&file.path))
        .chain([PathBuf::from("manifest.json")])
        .collect();
    let mut stack = vec![PathBuf::new()];
    while let Some(below) = stack.pop() {
        let Ok(entries) = fs::read_dir(directory.join(&below)) else { continue };
        for entry in entries.flatten() {
            let path = below.join(entry.file_name());
            if entry.path().is_dir() {
                stack.push(path);
            } else if !known.contains(&path) {
                problems.push(Problem {
                    path: path.display().to_string(),
                    line: 0,
                    text: "every file must be listed in the manifest, got one that is not".into(),
                });
            }
        }
    }
}

/// Schemas, ready to be used.
struct Schemas {
    case: jsonschema::Validator,
    class: jsonschema::Validator,
    index: jsonschema::Validator,
    inputs: jsonschema::Validator,
    manifest: jsonschema::Validator,
    series: jsonschema::Validator,
    states: jsonschema::Validator,
}

impl Schemas {
    fn new() -> Result<Self> {
        let schema = |text: &str| -> Result<jsonschema::Validator> {
            Ok(jsonschema::validator_for(&serde_json::from_str::<Value>(text)?)?)
        };
        Ok(Self {
            case: schema(CASE)?,
            class: schema(CLASS)?,
            index: schema(INDEX)?,
            inputs: schema(INPUTS)?,
            manifest: schema(MANIFEST)?,
            series: schema(SERIES)?,
            states: schema(STATES)?,
        })
    }

    /// The schema of a file's records, and the key by which they are sorted.
    fn of(&self, path: &str) -> (&jsonschema::Validator, Option<&'static str>) {
        let name = path.rsplit('/').next().unwrap_or(path);
        match name {
            "inputs.json" => (&self.inputs, None),
            "index.json" => (&self.index, None),
            "classes.jsonl" => (&self.class, Some("class")),
            "states.jsonl" => (&self.states, Some("id")),
            "cases.jsonl" => (&self.case, Some("id")),
            _ => (&self.series, Some("id")),
        }
    }
}

fn lint_file(schemas: &Schemas, file: &Listed, text: &str) -> Vec<Problem> {
    let (schema, key) = schemas.of(&file.path);
    let mut problems = Vec::new();
    if text.contains('\r') || !text.ends_with('\n') {
        problems.push(Problem {
            path: file.path.clone(),
            line: 0,
            text: "lines must end with LF, the last one too".to_owned(),
        });
    }
    let Some(key) = key else {
        check_line(schema, &file.path, 0, text, Some(file.dtype), &mut problems);
        return problems;
    };
    let is_case = file.path.ends_with("cases.jsonl");
    let lines: Vec<&str> = text.lines().collect();
    let checked: Vec<(Value, Vec<Problem>)> = lines
        .par_iter()
        .enumerate()
        .map(|(index, line)| {
            let dtype = if is_case { dtype_of(line) } else { file.dtype };
            let mut problems = Vec::new();
            let id = check_line(schema, &file.path, index + 1, line, Some(dtype), &mut problems);
            (id[key].clone(), problems)
        })
        .collect();
    for (index, pair) in checked.windows(2).enumerate() {
        if !ascends(&pair[0].0, &pair[1].0) {
            let text = format!("{key} must ascend, got {} after {}", pair[1].0, pair[0].0);
            problems.push(Problem { path: file.path.clone(), line: index + 2, text });
        }
    }
    problems.extend(checked.into_iter().flat_map(|(_, problems)| problems));
    problems
}

fn ascends(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::String(before), Value::String(after)) => before < after,
        (Value::Number(before), Value::Number(after)) => before.as_u64() < after.as_u64(),
        _ => false,
    }
}

/// Checks one record against its schema, and its numbers; returns it.
fn check_line(
    schema: &jsonschema::Validator,
    path: &str,
    line: usize,
    text: &str,
    dtype: Option<DType>,
    problems: &mut Vec<Problem>,
) -> Value {
    let mut problem = |text: String| {
        problems.push(Problem { path: path.to_owned(), line, text });
    };
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            problem(format!("a record must be JSON, got {error}"));
            return Value::Null;
        }
    };
    if let Err(error) = schema.validate(&value) {
        let short: String = error.to_string().chars().take(160).collect();
        problem(format!("{} does not fit the schema: {short}", error.instance_path()));
    }
    if let Some((token, expected)) = dtype.and_then(|dtype| decimal::first_uncanonical(text, dtype))
    {
        problem(format!("a number must be canonical, {expected}, got {token}"));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace_root;

    /// A copy of one family of cases, one of its files changed.
    fn damaged(change: impl Fn(&str, String) -> String) -> Vec<String> {
        let source = workspace_root().join("golden/v1");
        let copy = tempfile::tempdir().unwrap();
        fs::create_dir(copy.path().join("errors")).unwrap();
        let text = fs::read_to_string(source.join("manifest.json")).unwrap();
        let mut manifest: Value = serde_json::from_str(&text).unwrap();
        let families = manifest["families"].as_array_mut().unwrap();
        families.retain(|family| family["id"] == "errors");
        let cases = fs::read_to_string(source.join("errors/cases.jsonl")).unwrap();
        for (name, text) in
            [("manifest.json", format!("{manifest}\n")), ("errors/cases.jsonl", cases)]
        {
            fs::write(copy.path().join(name), change(name, text)).unwrap();
        }
        lint(copy.path()).unwrap().iter().map(ToString::to_string).collect()
    }

    fn in_cases(change: impl Fn(String) -> String) -> Vec<String> {
        damaged(|name, text| if name == "manifest.json" { text } else { change(text) })
    }

    fn assert_says(problems: &[String], text: &str) {
        assert!(problems.iter().any(|problem| problem.contains(text)), "{text}: {problems:#?}");
    }

    #[test]
    fn whole_goldens_have_no_problem() {
        assert_eq!(damaged(|_, text| text), Vec::<String>::new());
    }

    #[test]
    fn damage_is_found_and_named() {
        let digit = in_cases(|text| text.replacen("\"initial\":[0.", "\"initial\":[1.", 1));
        assert_says(&digit, "sha256");
        let number = in_cases(|text| text.replacen("\"clipvalue\":0.1", "\"clipvalue\":0.10", 1));
        assert_says(&number, "a number must be canonical, 0.1, got 0.10");
        let field = in_cases(|text| text.replacen("\"comment\"", "\"remark\"", 1));
        assert_says(&field, "errors/cases.jsonl:1:  does not fit the schema");
        let order = in_cases(|text| {
            let mut lines: Vec<&str> = text.lines().collect();
            lines.swap(0, 1);
            lines.join("\n") + "\n"
        });
        assert_says(&order, "errors/cases.jsonl:2: id must ascend");
        let ends = in_cases(|text| text.replace('\n', "\r\n"));
        assert_says(&ends, "lines must end with LF");
        let short = in_cases(|text| text[..text.len() / 2].to_owned());
        assert_says(&short, "a record must be JSON");
        let count = damaged(|name, text| {
            let wrong = text.replacen("\"cases\":14", "\"cases\":15", 1);
            if name == "manifest.json" { wrong } else { text }
        });
        assert_says(&count, "counts of family errors");
    }

    #[test]
    fn a_file_that_nobody_lists_is_found() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("notes.txt"), "").unwrap();
        let mut problems = Vec::new();
        check_unlisted(directory.path(), &[], &mut problems);
        assert_eq!(
            problems[0].to_string(),
            "notes.txt: every file must be listed in the manifest, got one that is not"
        );
    }
}
