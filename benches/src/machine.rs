//! Where a measurement was made.

use std::fmt;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// The facts that a time depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// Threads that may run at once.
    pub threads: usize,
    /// Caches, as the system names them.
    pub caches: Vec<String>,
    /// The kernel.
    pub system: String,
    /// The compiler.
    pub compiler: String,
}

impl Machine {
    /// This machine, as far as it can be found out.
    #[must_use]
    pub fn here() -> Self {
        let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = information.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == "model name").then(|| value.trim().to_owned())
        });
        let run = |program: &str, argument: &str| {
            let output = Command::new(program).arg(argument).output().ok()?;
            Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let cache = |index: usize| {
            let read = |field: &str| {
                let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{field}");
                fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
            };
            Some(format!("L{} {} {}", read("level")?, read("type")?, read("size")?))
        };
        Self {
            processor: name.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            caches: (0..8).filter_map(cache).collect(),
            system: run("uname", "-sr").unwrap_or_else(|| std::env::consts::OS.to_owned()),
            compiler: run("rustc", "--version").unwrap_or_default(),
        }
    }
}

/// Memory that programs can take without swapping, as far as the system tells.
#[must_use]
pub fn available_bytes() -> Option<usize> {
    let information = fs::read_to_string("/proc/meminfo").ok()?;
    let line = information.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Bytes of the largest cache, as far as the system tells; the part of it that a virtual machine
/// gets may be smaller.
#[must_use]
pub fn largest_cache_bytes() -> Option<usize> {
    let size = |index: usize| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/size");
        let text = fs::read_to_string(path).ok()?;
        let kibibytes: usize = text.trim().strip_suffix('K')?.parse().ok()?;
        Some(kibibytes * 1024)
    };
    (0..8).filter_map(size).max()
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, threads, caches, system, compiler } = self;
        write!(formatter, "{processor}, {threads} threads, {}, ", caches.join(", "))?;
        write!(formatter, "{system}, {compiler}")
    }
}
