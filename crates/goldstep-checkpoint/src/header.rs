//! The header of a safetensors file: a length, and a JSON object of names, types, shapes, places.
//!
//! Read here rather than by the `safetensors` crate, for errors that name the tensor and for reading
//! tensor by tensor instead of holding the whole file; that crate reads and writes the same files in
//! the tests.

use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::io::{Read, Seek, SeekFrom};

use goldstep_core::DType;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::CheckpointError;

/// The longest header that is written and read, about 50,000 parameters. What a header promises beyond the end
/// of its file is never allocated.
pub(crate) const LONGEST_HEADER: u64 = 32 * 1024 * 1024;
const METADATA: &str = "__metadata__";

/// The header of a file.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) tensors: BTreeMap<String, Entry>,
    /// Where the tensors' bytes begin in the file.
    pub(crate) data_start: u64,
}

/// Type, shape and place of a tensor.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    /// First byte and first byte after, counted from `data_start`.
    pub(crate) data_offsets: [u64; 2],
}

/// The name of an element type in a safetensors file.
pub(crate) const fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::Float64 => "F64",
        DType::Float32 => "F32",
        DType::Bfloat16 => "BF16",
        DType::Float16 => "F16",
    }
}

impl Entry {
    pub(crate) fn dtype(&self) -> Option<DType> {
        DType::ALL.into_iter().find(|dtype| dtype_name(*dtype) == self.dtype)
    }
}

impl Header {
    /// Reads the header and checks that its tensors fill the rest of the file without a gap.
    pub(crate) fn read(reader: &mut (impl Read + Seek)) -> Result<Self, CheckpointError> {
        let io = |source| CheckpointError::io("read", "checkpoint", source);
        let size = reader.seek(SeekFrom::End(0)).map_err(io)?;
        reader.rewind().map_err(io)?;
        let foreign = |got: String| CheckpointError::Foreign { got };
        if size < 8 {
            return Err(foreign(format!("{size} bytes")));
        }
        let mut length = [0; 8];
        reader.read_exact(&mut length).map_err(io)?;
        let length = u64::from_le_bytes(length);
        if length > LONGEST_HEADER {
            let got = format!("a header of {length} bytes, more than {LONGEST_HEADER}");
            return Err(foreign(got));
        }
        if length > size - 8 {
            return Err(CheckpointError::Size { expected: length.saturating_add(8), got: size });
        }
        let mut text = Vec::new();
        reader.take(length).read_to_end(&mut text).map_err(io)?;
        if text.first() != Some(&b'{') {
            return Err(foreign("a header that is no JSON object".to_owned()));
        }
        let (metadata, tensors) = parse(&text)?;
        let header = Self { metadata, tensors, data_start: 8 + length };
        header.check_places(size)?;
        Ok(header)
    }

    fn check_places(&self, size: u64) -> Result<(), CheckpointError> {
        let mut places: Vec<_> =
            self.tensors.iter().map(|(name, e)| (e.data_offsets, name)).collect();
        places.sort_unstable();
        let mut end = 0_u64;
        for ([first, after], name) in places {
            let bytes = self.tensors[name].bytes();
            let expected = bytes.and_then(|bytes| end.checked_add(bytes)).unwrap_or(u64::MAX);
            if (first, after) != (end, expected) {
                return Err(CheckpointError::TensorRange {
                    name: name.clone(),
                    expected: format!("{end}..{expected}"),
                    got: format!("{first}..{after}"),
                });
            }
            end = after;
        }
        let expected = self.data_start.saturating_add(end);
        if expected == size { Ok(()) } else { Err(CheckpointError::Size { expected, got: size }) }
    }
}

impl Entry {
    /// The size that shape and type give; `None` where it exceeds every file.
    fn bytes(&self) -> Option<u64> {
        // A type that is not one of ours: the place is taken as it is, the type is refused later.
        let Some(dtype) = self.dtype() else {
            return self.data_offsets[1].checked_sub(self.data_offsets[0]);
        };
        let elements = self.shape.iter().try_fold(1_usize, |all, axis| all.checked_mul(*axis))?;
        u64::try_from(elements.checked_mul(dtype.bytes())?).ok()
    }
}

type Parts = (BTreeMap<String, String>, BTreeMap<String, Entry>);

fn parse(text: &[u8]) -> Result<Parts, CheckpointError> {
    struct Tensors(Parts);

    impl<'de> Deserialize<'de> for Tensors {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(Parser)
        }
    }

    struct Parser;

    impl<'de> Visitor<'de> for Parser {
        type Value = Tensors;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object of tensors")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tensors, A::Error> {
            let (mut metadata, mut tensors) = (BTreeMap::new(), BTreeMap::new());
            while let Some(name) = map.next_key::<String>()? {
                if name == METADATA {
                    metadata = map.next_value()?;
                    continue;
                }
                match tensors.entry(name) {
                    btree_map::Entry::Vacant(vacant) => vacant.insert(map.next_value()?),
                    btree_map::Entry::Occupied(twice) => {
                        let message = format!("tensor {} is there twice", twice.key());
                        return Err(A::Error::custom(message));
                    }
                };
            }
            Ok(Tensors((metadata, tensors)))
        }
    }

    match serde_json::from_slice::<Tensors>(text) {
        Ok(Tensors(parts)) => Ok(parts),
        Err(error) => Err(CheckpointError::header(
            "JSON",
            "list tensors as safetensors does",
            error.to_string(),
        )),
    }
}
