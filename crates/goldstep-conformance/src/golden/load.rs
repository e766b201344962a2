//! From a directory to families: manifests, packed files, cases that stand alone.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::case::{CASE_FORMAT, Case, RawCase};
use super::error::{GoldenError, Place, shortened};
use super::file::{GoldenFile, JsonLine};
use super::grid::{GridFiles, TRACE_FORMAT};
use super::numbers::Budget;
use super::{Family, Golden, Traces};

const MANIFEST: &str = "manifest.json";
/// Directories deeper than this are no golden traces.
const DEEPEST: usize = 16;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawManifest {
    #[serde(rename = "format")]
    _format: String,
    generated: Map<String, Value>,
    families: Vec<RawFamily>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFamily {
    id: String,
    kind: String,
    dtypes: Vec<String>,
    purpose: String,
    generated: Option<Map<String, Value>>,
    counts: BTreeMap<String, usize>,
    files: Vec<RawFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    path: String,
    sha256: String,
    bytes: u64,
}

/// Reads every trace below `directory`.
pub(super) fn load(directory: &Path) -> Result<Golden, GoldenError> {
    let mut found = Found::default();
    walk(directory, 0, &mut found)?;
    let budget = Budget::new();
    let mut golden =
        Golden { directory: directory.to_owned(), generated: None, families: Vec::new() };
    let (mut ids, mut listed) = (HashSet::new(), HashSet::new());
    for manifest in &found.manifests {
        let (generated, families) = packed(manifest, &budget, &mut ids, &mut listed)?;
        golden.generated.get_or_insert(generated);
        golden.families.extend(families);
    }
    found.others.retain(|path| !listed.contains(path));
    stand_alone(&found.others, &budget, &mut golden.families)?;
    if golden.families.iter().all(Family::is_empty) {
        return Err(GoldenError::File {
            path: directory.to_owned(),
            rule: "a directory with a manifest.json or self-contained cases".to_owned(),
            got: "neither".to_owned(),
        });
    }
    Ok(golden)
}

/// One case from its JSON text.
pub(super) fn case_from_json(name: &Path, text: &str) -> Result<Case, GoldenError> {
    let file = GoldenFile::from_text(name, text);
    let line = file.whole();
    one_case(&line, &Budget::new())
}

#[derive(Debug, Default)]
struct Found {
    manifests: Vec<PathBuf>,
    others: Vec<PathBuf>,
}

/// Lists manifests and other `*.json` in a fixed order; links to directories are not followed.
fn walk(directory: &Path, depth: usize, found: &mut Found) -> Result<(), GoldenError> {
    let wrong = |rule: &str, got: String| GoldenError::File {
        path: directory.to_owned(),
        rule: rule.to_owned(),
        got,
    };
    let unreadable = |error: std::io::Error| wrong("a readable directory", error.to_string());
    if depth > DEEPEST {
        return Err(wrong("at most 16 directories deep", "one below".to_owned()));
    }
    let mut entries = fs::read_dir(directory)
        .map_err(unreadable)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type().map_err(unreadable)?.is_dir() {
            if !name.starts_with('.') {
                walk(&path, depth + 1, found)?;
            }
        } else if name == MANIFEST {
            found.manifests.push(path);
        } else if name.ends_with(".json") && !name.ends_with(".schema.json") {
            found.others.push(path);
        }
    }
    Ok(())
}

/// The families that a manifest lists.
fn packed(
    manifest: &Path,
    budget: &Budget,
    ids: &mut HashSet<String>,
    listed: &mut HashSet<PathBuf>,
) -> Result<(Map<String, Value>, Vec<Family>), GoldenError> {
    let file = GoldenFile::read(manifest.to_owned())?;
    let line = file.whole();
    let raw: RawManifest = line.versioned(TRACE_FORMAT, "goldstep-trace/1 (manifest)")?;
    if let Some(family) = raw.families.iter().find(|family| !ids.insert(family.id.clone())) {
        let twice = format!("{} twice", shortened(&family.id));
        return Err(line.place().content("families", "have unique ids", twice));
    }
    let base = manifest.parent().unwrap_or(Path::new("."));
    for entry in raw.families.iter().flat_map(|family| &family.files) {
        let inside = Path::new(&entry.path)
            .components()
            .all(|component| matches!(component, Component::Normal(_)));
        if !inside || !listed.insert(base.join(&entry.path)) {
            let rule = "be paths below the manifest, each listed once";
            return Err(line.place().content("files", rule, shortened(&entry.path)));
        }
    }
    let families = raw.families.into_par_iter().map(|family| {
        let files = family.files.par_iter().map(|entry| {
            GoldenFile::read_proven(base.join(&entry.path), entry.bytes, &entry.sha256)
        });
        let files: Vec<GoldenFile> = files.collect::<Result<_, _>>()?;
        one_family(&line, family, &files, budget)
    });
    Ok((raw.generated, families.collect::<Result<_, _>>()?))
}

fn one_family(
    manifest: &JsonLine<'_>,
    raw: RawFamily,
    files: &[GoldenFile],
    budget: &Budget,
) -> Result<Family, GoldenError> {
    let wrong = |subject: &str, rule: String, got: String| {
        manifest.place().content(format!("{subject} of family {}", raw.id), rule, got)
    };
    let named = |name: &str| {
        let same = |file: &&GoldenFile| file.path().file_name().is_some_and(|own| own == name);
        let missing = || wrong("files", format!("list {name}"), "none".to_owned());
        files.iter().find(same).ok_or_else(missing)
    };
    let (traces, counts, dtypes) = match raw.kind.as_str() {
        "grid" => {
            let is_series = |file: &&GoldenFile| {
                let name = file.path().file_name().unwrap_or_default().to_string_lossy();
                name == "series.jsonl" || name.starts_with("series-")
            };
            let series: Vec<&GoldenFile> = files.iter().filter(is_series).collect();
            let known = 4 + series.len();
            if files.len() != known {
                return Err(wrong("files", format!("be {known}"), files.len().to_string()));
            }
            let grid = GridFiles {
                inputs: named("inputs.json")?,
                index: named("index.json")?,
                classes: named("classes.jsonl")?,
                states: named("states.jsonl")?,
                series,
            };
            let grid = grid.load(&raw.id, budget)?;
            let (counts, dtypes) = (grid.counts.clone(), vec![grid.dtype()]);
            (Traces::Grid(grid), counts, dtypes)
        }
        "cases" => {
            if files.len() != 1 {
                return Err(wrong("files", "be 1".to_owned(), files.len().to_string()));
            }
            let cases = packed_cases(named("cases.jsonl")?, &raw.id, budget)?;
            let dtypes = cases.iter().map(|case| case.dtype).collect();
            (Traces::Cases(cases.clone()), case_counts(&cases), dtypes)
        }
        kind => return Err(wrong("kind", "be grid or cases".to_owned(), shortened(kind))),
    };
    let expected: BTreeMap<&str, usize> =
        raw.counts.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    if expected != counts {
        return Err(wrong("counts", format!("be {counts:?}"), shortened(&format!("{expected:?}"))));
    }
    let mut names: Vec<&str> = dtypes.iter().map(|dtype| dtype.name()).collect();
    names.sort_unstable();
    names.dedup();
    if names != raw.dtypes {
        return Err(wrong(
            "dtypes",
            format!("be {names:?}"),
            shortened(&format!("{:?}", raw.dtypes)),
        ));
    }
    let generated = raw.generated;
    Ok(Family { id: raw.id, purpose: raw.purpose, packed: true, generated, traces })
}

fn packed_cases(
    file: &GoldenFile,
    family: &str,
    budget: &Budget,
) -> Result<Vec<Case>, GoldenError> {
    let lines = file.lines()?;
    let cases = lines.par_iter().map(|line| {
        let case = one_case(line, budget)?;
        if case.family.as_deref() != Some(family) {
            let got = shortened(case.family.as_deref().unwrap_or("none"));
            return Err(line.place().content("family", format!("be {family}"), got));
        }
        Ok(case)
    });
    let cases: Vec<Case> = cases.collect::<Result<_, _>>()?;
    for (index, pair) in cases.windows(2).enumerate() {
        if pair[0].id >= pair[1].id {
            let got = format!("{} after {}", pair[1].id, pair[0].id);
            return Err(lines[index + 1].place().content("ids", "be unique and ascend", got));
        }
    }
    Ok(cases)
}

fn case_counts(cases: &[Case]) -> BTreeMap<&'static str, usize> {
    let steps = || cases.iter().flat_map(|case| &case.expectation.steps);
    let errors = cases.iter().filter(|case| case.expectation.error.is_some()).count();
    BTreeMap::from([
        ("cases", cases.len()),
        ("steps", steps().count()),
        ("compared_steps", steps().flatten().count()),
        ("errors", errors),
    ])
}

/// Cases with files of their own, grouped by the family that they name.
fn stand_alone(
    paths: &[PathBuf],
    budget: &Budget,
    families: &mut Vec<Family>,
) -> Result<(), GoldenError> {
    let read = |path: &PathBuf| {
        let file = GoldenFile::read(path.clone())?;
        let line = file.whole();
        // A schema may have any name; it says what it is.
        if line.is_schema() { Ok(None) } else { one_case(&line, budget).map(Some) }
    };
    let cases: Vec<Option<Case>> = paths.par_iter().map(read).collect::<Result<_, _>>()?;
    let packed = families.len();
    let mut ids = HashSet::new();
    for (path, case) in paths.iter().zip(cases) {
        let Some(case) = case else { continue };
        if !ids.insert(case.id.clone()) {
            let place = Place { path, line: 1 };
            return Err(place.content(
                "id",
                "be unique in the directory",
                format!("{} twice", case.id),
            ));
        }
        let named = case.family.clone().unwrap_or_default();
        let taken = families[..packed].iter().any(|family| family.id == named);
        let id = if named.is_empty() || taken { "cases".to_owned() } else { named };
        let own = families[packed..].iter_mut().find(|family| family.id == id);
        match own.map(|family| &mut family.traces) {
            Some(Traces::Cases(cases)) => cases.push(case),
            _ => families.push(Family {
                id,
                purpose: String::new(),
                packed: false,
                generated: None,
                traces: Traces::Cases(vec![case]),
            }),
        }
    }
    Ok(())
}

fn one_case(line: &JsonLine<'_>, budget: &Budget) -> Result<Case, GoldenError> {
    let raw: RawCase = line.versioned(CASE_FORMAT, "goldstep-case/1")?;
    raw.into_case(line.place(), budget)
}
