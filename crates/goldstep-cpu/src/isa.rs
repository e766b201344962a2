//! Which instruction set the kernels run in: a value that only detection creates.

use goldstep_core::Error;

use crate::lanes::{Lanes, Memory};
use crate::real::CpuElement;

/// The environment variable that forces an instruction set.
const VARIABLE: &str = "GOLDSTEP_ISA";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// An instruction set that this processor has.
///
/// A value is the proof: it comes from [`Isa::best`] or [`Isa::available`] only. All of them give
/// the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Isa(Level);

impl Isa {
    /// Plain Rust, compiled for the target's baseline. That of x86-64 does not fuse additions with
    /// multiplications: they go through f64, and a step takes some 4 ns a parameter.
    pub const PORTABLE: Self = Self(Level::Portable);

    /// The instruction sets of this processor, the fastest last.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut found = vec![Self::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
            {
                found.push(Self(Level::Avx2));
                if is_x86_feature_detected!("avx512f") {
                    found.push(Self(Level::Avx512));
                }
            }
        }
        found
    }

    /// The fastest of them, unless the environment variable `GOLDSTEP_ISA` names another.
    ///
    /// # Errors
    /// A name that is none of [`Isa::available`]'s.
    pub fn detect() -> Result<Self, Error> {
        match std::env::var_os(VARIABLE) {
            Some(forced) if !forced.is_empty() => Self::by_name(&forced.to_string_lossy()),
            _ => Ok(Self::best()),
        }
    }

    /// The fastest of [`Isa::available`].
    #[must_use]
    pub fn best() -> Self {
        Self::available().into_iter().max().unwrap_or(Self::PORTABLE)
    }

    /// The one of that name.
    ///
    /// # Errors
    /// A name that is unknown, or of an instruction set that this processor lacks.
    pub fn by_name(name: &str) -> Result<Self, Error> {
        let unknown = || Error::Argument {
            name: VARIABLE,
            rule: "an instruction set of this processor: portable, avx2 or avx512",
            value: name.to_owned(),
        };
        Self::available().into_iter().find(|isa| isa.name() == name).ok_or_else(unknown)
    }

    /// Its name: `portable`, `avx2` or `avx512`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            Level::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
        }
    }

    /// Runs a kernel compiled for this instruction set.
    #[inline]
    #[expect(unsafe_code, reason = "a function of an instruction set beyond the baseline")]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Level::Portable => portable::run(kernel),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this value exists only when detection has found AVX2, FMA and F16C.
            Level::Avx2 => unsafe { avx2::run(kernel) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this value exists only when detection has found AVX-512F.
            Level::Avx512 => unsafe { avx512::run(kernel) },
        }
    }
}

/// A kernel: its arguments, and one body for every instruction set.
///
/// `run` and everything it calls must be `#[inline(always)]`, so that the body lies inside the
/// function that carries the instruction set.
pub(crate) trait Kernel {
    type Element: CpuElement;
    type Output;
    fn run<V>(self) -> Self::Output
    where
        V: Lanes<Real = <Self::Element as CpuElement>::Real> + Memory<Self::Element>;
}

// Each in a module of its own: the compiler makes one unit of the functions of a module. With the kernels
// of all instruction sets in one unit, a release build of this crate took 188 s on two cores, not 107.

mod portable {
    use super::Kernel;
    use crate::real::CpuElement;

    #[inline(never)]
    pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<<K::Element as CpuElement>::Portable>()
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::Kernel;
    use crate::real::CpuElement;

    #[target_feature(enable = "avx2,fma,f16c")]
    pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<<K::Element as CpuElement>::Avx2>()
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::Kernel;
    use crate::real::CpuElement;

    #[target_feature(enable = "avx512f")]
    pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<<K::Element as CpuElement>::Avx512>()
    }
}
