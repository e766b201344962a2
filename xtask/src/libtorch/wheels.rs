//! The wheels that libtorch is made from, and what is kept of them.

use std::path::{Path, PathBuf};

/// A file of the package index, fixed by its hash.
#[derive(Debug)]
pub(super) struct Wheel {
    /// As pip takes it.
    pub(super) requirement: &'static str,
    pub(super) file: &'static str,
    pub(super) sha256: &'static str,
    pub(super) bytes: u64,
}

/// libtorch and the two libraries that it loads even where there is no GPU. Not used: the wheels of
/// cuBLAS, cuDNN and so on, which only libtorch_cuda needs.
pub(super) const WHEELS: [Wheel; 3] = [
    Wheel {
        requirement: "torch==2.13.0",
        file: "torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        sha256: "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7",
        bytes: 526_574_961,
    },
    Wheel {
        requirement: "nvidia-cuda-runtime==13.0.96",
        file: "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        bytes: 2_243_632,
    },
    Wheel {
        requirement: "nvidia-cuda-cupti==13.0.85",
        file: "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
        sha256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
        bytes: 10_715_597,
    },
];

/// Bytes that are kept of the wheels, about.
pub(super) const KEPT_BYTES: u64 = 486 << 20;

/// The tags that name these wheels, whatever Python runs pip.
pub(super) const TAGS: [&str; 14] = [
    "--python-version",
    "3.11",
    "--implementation",
    "cp",
    "--abi",
    "cp311",
    "--platform",
    "manylinux_2_28_x86_64",
    "--platform",
    "manylinux_2_25_x86_64",
    "--platform",
    "manylinux_2_17_x86_64",
    "--platform",
    "manylinux2014_x86_64",
];

const LIBRARIES: [&str; 5] =
    ["libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcudart.so.13", "libcupti.so.13"];

/// pip's requirements with hashes.
pub(super) fn requirements() -> String {
    let line = |wheel: &Wheel| format!("{} --hash=sha256:{}\n", wheel.requirement, wheel.sha256);
    WHEELS.iter().map(line).collect()
}

/// Where an entry of a wheel goes in the folder of libtorch, if it is kept.
pub(super) fn place(entry: &str) -> Option<PathBuf> {
    let path = Path::new(entry);
    if entry.ends_with('/') || path.components().any(|part| part.as_os_str() == "..") {
        return None;
    }
    if let Ok(header) = path.strip_prefix("torch/include") {
        return Some(Path::new("include").join(header));
    }
    let name = path.file_name()?.to_str()?;
    if LIBRARIES.contains(&name) {
        return Some(Path::new("lib").join(name));
    }
    let folder = path.components().next()?.as_os_str().to_str()?;
    let is_licence = ["license", "notice"].iter().any(|word| name.to_lowercase().contains(word));
    // `torch-2.13.0.dist-info/licenses/…`: nested ones are of parts that the top one repeats.
    let package = folder.strip_suffix(".dist-info")?;
    (is_licence && path.components().count() <= 3)
        .then(|| Path::new("licences").join(package).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_headers_and_licences_are_kept() {
        let place = |entry: &str| super::place(entry).map(|path| path.display().to_string());
        let kept = |to: &str| Some(to.to_owned());
        assert_eq!(place("torch/lib/libtorch_cpu.so"), kept("lib/libtorch_cpu.so"));
        assert_eq!(place("nvidia/cu13/lib/libcudart.so.13"), kept("lib/libcudart.so.13"));
        assert_eq!(place("torch/include/ATen/ATen.h"), kept("include/ATen/ATen.h"));
        let licence = "torch-2.13.0.dist-info/licenses/LICENSE";
        assert_eq!(place(licence), kept("licences/torch-2.13.0/LICENSE"));
        for entry in
            ["torch/lib/libtorch_cuda.so", "torch/_C.so", "torch/include/", "torch/include/../x"]
        {
            assert_eq!(place(entry), None, "{entry}");
        }
    }

    #[test]
    fn requirements_carry_hashes() {
        let lines = requirements();
        assert_eq!(lines.lines().count(), 3);
        assert!(lines.lines().all(|line| line.contains(" --hash=sha256:")));
    }
}
