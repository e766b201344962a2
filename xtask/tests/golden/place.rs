//! A copy of small families of the real goldens, and a generator that takes a moment.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use goldstep_conformance::golden::Golden;
use serde_json::{Value, json};

/// Small families of the real goldens.
pub(crate) const FAMILIES: [&str; 2] = ["errors", "exclusion"];

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

pub(crate) struct Place {
    root: tempfile::TempDir,
    generator: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let generator = root.path().join("generator.sh");
        fs::write(&generator, GENERATOR).unwrap();
        fs::set_permissions(&generator, fs::Permissions::from_mode(0o755)).unwrap();
        Self { root, generator }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Starts `cargo xtask golden` on the copy `v1`; the generator gives what is in `source`.
    pub(crate) fn start(&self, source: &str, options: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(["golden", "--golden"])
            .arg(self.path("v1"))
            .arg("--generator")
            .arg(&self.generator)
            .args(options)
            .env("SOURCE", self.path(source))
            .env("CARGO_TARGET_DIR", self.path("target"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// What it answers when nothing stops it.
    pub(crate) fn output(&self, source: &str, options: &[&str]) -> Output {
        self.start(source, options).wait_with_output().unwrap()
    }

    /// Records to the end.
    pub(crate) fn finish(&self, source: &str) {
        let output = self.output(source, &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The date of the traces in place, all of which are proved.
    pub(crate) fn date(&self) -> String {
        let golden = Golden::load(&self.path("v1")).unwrap();
        assert_eq!(golden.families().len(), FAMILIES.len());
        golden.generated().unwrap()["date"].as_str().unwrap().to_owned()
    }
}

/// Copies the small families, with another date.
pub(crate) fn traces(directory: &Path, date: &str) {
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
