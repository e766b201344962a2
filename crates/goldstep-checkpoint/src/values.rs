//! Tensor values to little-endian bytes and back, in pieces.

use std::io::{self, Read};

use goldstep_core::{DType, Values};
use half::{bf16, f16};

/// Bytes converted at a time; a multiple of every element size.
const CHUNK: usize = 1 << 16;

/// A number with a fixed little-endian form.
trait LittleEndian: Copy {
    const BYTES: usize;
    fn read(bytes: &[u8]) -> Self;
    fn write(self, bytes: &mut Vec<u8>);
}

macro_rules! little_endian {
    ($($number:ty),*) => {$(
        impl LittleEndian for $number {
            const BYTES: usize = size_of::<Self>();

            fn read(bytes: &[u8]) -> Self {
                let mut array = [0; size_of::<Self>()];
                array.copy_from_slice(bytes);
                Self::from_le_bytes(array)
            }

            fn write(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

little_endian!(f64, f32, bf16, f16);

/// Hands the bytes of a tensor to `sink`, piece by piece.
pub(crate) fn for_each_chunk<E>(
    values: &Values,
    sink: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    fn chunks<T: LittleEndian, E>(
        values: &[T],
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut bytes = Vec::with_capacity(CHUNK.min(values.len() * T::BYTES));
        for part in values.chunks(CHUNK / T::BYTES) {
            bytes.clear();
            part.iter().for_each(|value| value.write(&mut bytes));
            sink(&bytes)?;
        }
        Ok(())
    }
    match values {
        Values::Float64(values) => chunks(values, sink),
        Values::Float32(values) => chunks(values, sink),
        Values::Bfloat16(values) => chunks(values, sink),
        Values::Float16(values) => chunks(values, sink),
    }
}

/// The CRC-32 of a tensor's bytes.
pub(crate) fn checksum(values: &Values) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let sum = for_each_chunk(values, |bytes| {
        hasher.update(bytes);
        Ok::<(), std::convert::Infallible>(())
    });
    match sum {
        Ok(()) => hasher.finalize(),
        Err(never) => match never {},
    }
}

/// Reads `elements` values and their CRC-32. The caller has checked that the file is long enough.
pub(crate) fn read(
    reader: &mut impl Read,
    dtype: DType,
    elements: usize,
) -> io::Result<(Values, u32)> {
    fn read<T: LittleEndian>(reader: &mut impl Read, elements: usize) -> io::Result<(Vec<T>, u32)> {
        let mut hasher = crc32fast::Hasher::new();
        let mut values = Vec::with_capacity(elements);
        let mut bytes = vec![0; CHUNK.min(elements * T::BYTES)];
        while values.len() < elements {
            let length = bytes.len().min((elements - values.len()) * T::BYTES);
            let bytes = &mut bytes[..length];
            reader.read_exact(bytes)?;
            hasher.update(bytes);
            values.extend(bytes.chunks_exact(T::BYTES).map(T::read));
        }
        Ok((values, hasher.finalize()))
    }
    Ok(match dtype {
        DType::Float64 => {
            let (values, sum) = read(reader, elements)?;
            (Values::Float64(values), sum)
        }
        DType::Float32 => {
            let (values, sum) = read(reader, elements)?;
            (Values::Float32(values), sum)
        }
        DType::Bfloat16 => {
            let (values, sum) = read(reader, elements)?;
            (Values::Bfloat16(values), sum)
        }
        DType::Float16 => {
            let (values, sum) = read(reader, elements)?;
            (Values::Float16(values), sum)
        }
    })
}
