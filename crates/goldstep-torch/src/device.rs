//! Devices by name, and why one cannot be had.

use std::sync::OnceLock;

use tch::{Cuda, Device};
use thiserror::Error;

/// Why a device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// Not a device's name.
    #[error("device must be cpu, cuda or cuda:INDEX, got {name}")]
    Name {
        /// What came.
        name: String,
    },
    /// This libtorch was built without CUDA.
    #[error(
        "device {name} needs a libtorch built with CUDA, got one without: {reason} (set LIBTORCH \
         to a CUDA build of the same version)"
    )]
    BuildWithoutCuda {
        /// The device asked for.
        name: String,
        /// What the loader said.
        reason: String,
    },
    /// This libtorch has CUDA, and finds no driver or no device.
    #[error("device {name} needs an NVIDIA driver and a device, got none from the driver")]
    NoDriver {
        /// The device asked for.
        name: String,
    },
    /// Fewer devices than the index says.
    #[error("device index must be below {devices}, the number of CUDA devices, got {index}")]
    Index {
        /// The index asked for.
        index: usize,
        /// How many there are.
        devices: usize,
    },
}

/// The device called `cpu`, `cuda` (the first one) or `cuda:INDEX`.
///
/// # Errors
/// Another name; for CUDA: a libtorch without it, no driver, an index out of range.
pub fn device_from_name(name: &str) -> Result<Device, DeviceError> {
    let index = match name {
        "cpu" => return Ok(Device::Cpu),
        "cuda" => 0,
        _ => name
            .strip_prefix("cuda:")
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| DeviceError::Name { name: name.to_owned() })?,
    };
    load_cuda().as_ref().map_err(|reason| DeviceError::BuildWithoutCuda {
        name: name.to_owned(),
        reason: reason.clone(),
    })?;
    match usize::try_from(Cuda::device_count()) {
        Ok(devices) if index < devices => Ok(Device::Cuda(index)),
        Ok(devices) if devices > 0 => Err(DeviceError::Index { index, devices }),
        _ => Err(DeviceError::NoDriver { name: name.to_owned() }),
    }
}

/// Loads libtorch's CUDA part once, so that one program serves builds with and without it: nothing
/// else refers to it, and libtorch finds its CUDA hooks only in a library that is loaded globally.
fn load_cuda() -> &'static Result<(), String> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED.get_or_init(|| {
        #[cfg(unix)]
        {
            use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
            #[expect(unsafe_code, reason = "loading a library runs its initialisers")]
            // SAFETY: libtorch_cuda's initialisers register kernels with the libtorch that is
            // already loaded; it comes from the same folder (run path), hence the same version.
            let library =
                unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) };
            // Kernels stay registered for the life of the process: never unload.
            library.map(std::mem::forget).map_err(|error| {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                source.unwrap_or_else(|| error.to_string())
            })
        }
        #[cfg(not(unix))]
        {
            Ok(())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(device_from_name("cpu"), Ok(Device::Cpu));
        for name in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:+1", "CPU"] {
            let error = device_from_name(name).unwrap_err();
            assert_eq!(error, DeviceError::Name { name: name.to_owned() });
        }
    }

    #[test]
    fn an_absent_cuda_device_says_why() {
        match device_from_name("cuda:4096") {
            Err(DeviceError::BuildWithoutCuda { reason, .. }) => {
                assert!(reason.contains("libtorch_cuda.so"), "{reason}");
            }
            Err(DeviceError::NoDriver { name }) => assert_eq!(name, "cuda:4096"),
            Err(DeviceError::Index { index, devices }) => {
                assert!(index == 4096 && devices > 0);
            }
            other => panic!("no machine has that device, got {other:?}"),
        }
    }
}
