//! However a recording ends, the goldens in place are whole: the old ones or the new ones.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test's helper may panic")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use goldstep_conformance::golden::Golden;
use serde_json::{Value, json};

const MOMENTS: u32 = 20;

/// Small families of the real goldens.
const FAMILIES: [&str; 2] = ["errors", "exclusion"];

/// A generator that copies traces, with pauses in which it can be met.
const GENERATOR: &str = r#"#!/bin/sh
while [ $# -gt 0 ]; do
  if [ "$1" = --out ]; then out=$2; fi
  shift
done
mkdir "$out.half"
for file in $(cd "$SOURCE" && find . -type f); do
  mkdir -p "$(dirname "$out.half/$file")"
  cp "$SOURCE/$file" "$out.half/$file"
  sleep 0.05
done
mv "$out.half" "$out"
echo recorded
"#;

struct Place {
    root: tempfile::TempDir,
    generator: PathBuf,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let generator = root.path().join("generator.sh");
        fs::write(&generator, GENERATOR).unwrap();
        fs::set_permissions(&generator, fs::Permissions::from_mode(0o755)).unwrap();
        Self { root, generator }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Starts `cargo xtask golden` on the copy `v1`, with traces that say they are from `date`.
    fn start(&self, date: &str) -> Child {
        Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(["golden", "--golden"])
            .arg(self.path("v1"))
            .arg("--generator")
            .arg(&self.generator)
            .env("SOURCE", self.path(date))
            .env("CARGO_TARGET_DIR", self.path("target"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Records to the end.
    fn finish(&self, date: &str) {
        let output = self.start(date).wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The date of the traces in place, all of which are proved.
    fn date(&self) -> String {
        let golden = Golden::load(&self.path("v1")).unwrap();
        assert_eq!(golden.families().len(), FAMILIES.len());
        golden.generated().unwrap()["date"].as_str().unwrap().to_owned()
    }
}

/// Copies the small families, with another date.
fn traces(directory: &Path, date: &str) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/v1");
    let text = fs::read_to_string(source.join("manifest.json")).unwrap();
    let mut manifest: Value = serde_json::from_str(&text).unwrap();
    manifest["generated"]["date"] = json!(date);
    let families = manifest["families"].as_array_mut().unwrap();
    families.retain(|family| FAMILIES.iter().any(|name| family["id"] == *name));
    for family in families {
        for file in family["files"].as_array().unwrap() {
            let path = directory.join(file["path"].as_str().unwrap());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::copy(source.join(file["path"].as_str().unwrap()), path).unwrap();
        }
    }
    fs::write(directory.join("manifest.json"), format!("{manifest}\n")).unwrap();
}

#[test]
fn a_killed_recording_leaves_whole_goldens() {
    let place = Place::new();
    let dates = ["2001-01-01", "2002-02-02"];
    for date in dates {
        traces(&place.path(date), date);
    }
    traces(&place.path("v1"), dates[0]);
    let started = Instant::now();
    place.finish(dates[1]);
    let whole = started.elapsed();
    assert_eq!(place.date(), dates[1]);

    for moment in 0..MOMENTS {
        // Spread over the whole run and a little beyond, at places that look random.
        let share = (f64::from(moment) * 0.618).fract() * 1.2;
        let date = dates[moment as usize % 2];
        let mut recording = place.start(date);
        std::thread::sleep(Duration::from_secs_f64(whole.as_secs_f64() * share));
        recording.kill().unwrap();
        recording.wait().unwrap();
        assert!(dates.contains(&place.date().as_str()), "killed at {share:.2} of the run");
    }

    place.finish(dates[0]);
    assert_eq!(place.date(), dates[0]);
    let left = fs::read_dir(place.root.path()).unwrap().flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with(".v1.new-"));
    // A generator that outlived its killed parent may still be copying; the next recording cleans.
    assert!(left.count() <= 1);
}

#[test]
fn a_recording_that_is_not_whole_replaces_nothing() {
    let place = Place::new();
    traces(&place.path("v1"), "2001-01-01");
    traces(&place.path("damaged"), "2002-02-02");
    let cases = place.path("damaged").join("errors/cases.jsonl");
    let text = fs::read_to_string(&cases).unwrap();
    fs::write(&cases, text.replacen("0.", "1.", 1)).unwrap();
    let output = place.start("damaged").wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("so nothing was replaced"), "{said}");
    assert_eq!(place.date(), "2001-01-01");
}
