//! Memory that is reused from parameter to parameter and from step to step.

use tch::{Device, Kind, TchError, Tensor};

/// One growing buffer per use and element type.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    buffers: Vec<Buffer>,
}

/// What a buffer is for; two of the same use are never alive at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Squares of the gradient, then the update.
    Update,
    /// The whole gradient, made dense, clipped or converted.
    Gradient,
    /// A block of the gradient, clipped or converted.
    Clipped,
    /// A part of the gradient, without its subnormal elements.
    Normal,
    /// A part of the parameter in the type that the arithmetic runs in.
    Parameter,
}

#[derive(Debug)]
struct Buffer {
    purpose: Use,
    kind: Kind,
    device: Device,
    elements: i64,
    tensor: Tensor,
}

impl Scratch {
    /// An uninitialised tensor of that shape; a later call for the same use shares its memory.
    pub(super) fn take(
        &mut self,
        purpose: Use,
        shape: &[i64],
        kind: Kind,
        device: Device,
    ) -> Result<Tensor, TchError> {
        let elements: i64 = shape.iter().product();
        let found = self.buffers.iter().position(|buffer| {
            buffer.purpose == purpose && buffer.kind == kind && buffer.device == device
        });
        let index = match found {
            Some(index) if self.buffers[index].elements >= elements => index,
            found => {
                // The old buffer goes before the new one comes, so that the peak is the larger.
                if let Some(index) = found {
                    self.buffers.swap_remove(index);
                }
                let tensor = Tensor::f_empty([elements], (kind, device))?;
                self.buffers.push(Buffer { purpose, kind, device, elements, tensor });
                self.buffers.len() - 1
            }
        };
        let buffer = &self.buffers[index];
        let part = if buffer.elements == elements {
            buffer.tensor.f_view(shape)?
        } else {
            buffer.tensor.f_narrow(0, 0, elements)?.f_view(shape)?
        };
        Ok(part)
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let bytes = |buffer: &Buffer| buffer.tensor.numel() * buffer.kind.elt_size_in_bytes();
        self.buffers.iter().map(bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_grow_and_are_shared() {
        let mut scratch = Scratch::default();
        let mut take = |purpose, shape: &[i64]| {
            scratch.take(purpose, shape, Kind::Float, Device::Cpu).unwrap().data_ptr()
        };
        let large = take(Use::Update, &[4, 4]);
        assert_eq!(take(Use::Update, &[3]), large);
        assert_ne!(take(Use::Gradient, &[3]), large);
        let _larger = take(Use::Update, &[5, 5]);
        assert_eq!(scratch.bytes(), (25 + 3) * 4);
    }
}
