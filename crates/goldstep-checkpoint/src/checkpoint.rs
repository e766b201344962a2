//! The complete state of a run, in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom, Write};
use std::path::Path;

use goldstep_core::{
    AdafactorArguments, AdafactorState, DType, Element, HostOptimizer, Layout, LearningRate,
    Parameter, ParameterList, SecondMoment, Values, VariableState,
};

use crate::CheckpointError;
use crate::document::{Document, ParameterDocument, checksum_text};
use crate::header::{Entry, Header};
use crate::values::{checksum, read};
use crate::write::{Tensor, replace, write};

/// Everything that a run needs to continue: arguments with the learning rate in force, the parameter
/// list, the optimizer's state, and, if they were added, the parameters' values.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    arguments: AdafactorArguments,
    /// Whether the learning rate was a schedule that a file cannot hold and is not yet given again.
    lacks_schedule: bool,
    parameters: ParameterList,
    dtypes: Vec<DType>,
    state: AdafactorState,
    variables: Option<Vec<Values>>,
}

impl Checkpoint {
    /// The state of an optimizer in host memory.
    ///
    /// # Errors
    /// None that a backend of this project causes; see [`new`](Self::new).
    pub fn of<T: Element, O: HostOptimizer<T>>(optimizer: &O) -> Result<Self, CheckpointError> {
        let parameters = optimizer.parameters();
        let dtypes = vec![T::DTYPE; parameters.len()];
        Self::new(optimizer.arguments(), parameters, &dtypes, optimizer.state())
    }

    /// A checkpoint of parts, for optimizers that are not in host memory and for converters.
    ///
    /// `arguments` hold the learning rate of the next step, `dtypes` the type of each parameter.
    ///
    /// # Errors
    /// Another number of types than parameters, a state that does not fit the list, a state in
    /// a type other than its parameter's or, for float16 and bfloat16, float32.
    pub fn new(
        arguments: &AdafactorArguments,
        parameters: &ParameterList,
        dtypes: &[DType],
        state: AdafactorState,
    ) -> Result<Self, CheckpointError> {
        parameters.check_count("types", dtypes.len())?;
        state.check(parameters, arguments.use_ema())?;
        for ((parameter, dtype), state) in parameters.iter().zip(dtypes).zip(&state.variables) {
            for (kind, values) in fields(state) {
                let allowed = state_dtypes(*dtype);
                if !allowed.contains(&values.dtype()) {
                    let name = tensor_name(kind, parameter);
                    return Err(CheckpointError::dtype(&name, &allowed, values.dtype().name()));
                }
            }
        }
        Ok(Self {
            arguments: arguments.clone(),
            lacks_schedule: false,
            parameters: parameters.clone(),
            dtypes: dtypes.to_vec(),
            state,
            variables: None,
        })
    }

    /// The same checkpoint with the values of the parameters, each row-major in its shape.
    ///
    /// # Errors
    /// As [`with_variable_values`](Self::with_variable_values).
    pub fn with_variables<T: Element>(self, variables: &[&[T]]) -> Result<Self, CheckpointError> {
        let values = variables.iter().map(|values| Values::from_slice(values)).collect();
        self.with_variable_values(values)
    }

    /// The same checkpoint with the values of the parameters, in types known at run time.
    ///
    /// # Errors
    /// Another count, length or type than the parameters have.
    pub fn with_variable_values(mut self, variables: Vec<Values>) -> Result<Self, CheckpointError> {
        self.parameters.check_parameters(variables.iter().map(Values::len))?;
        for ((parameter, dtype), values) in self.typed().zip(&variables) {
            if values.dtype() != dtype {
                let name = tensor_name("variable", parameter);
                return Err(CheckpointError::dtype(&name, &[dtype], values.dtype().name()));
            }
        }
        self.variables = Some(variables);
        Ok(self)
    }

    /// The same checkpoint with another learning rate, as if it had been assigned before saving. A
    /// schedule of the user's own has to be given again in this way.
    ///
    /// # Errors
    /// As [`LearningRate::assign`].
    pub fn with_learning_rate(mut self, rate: LearningRate) -> Result<Self, CheckpointError> {
        if self.lacks_schedule && matches!(rate, LearningRate::Schedule(_)) {
            self.lacks_schedule = false;
        } else if self.lacks_schedule {
            return Err(CheckpointError::CustomSchedule);
        }
        self.arguments.assign_learning_rate(rate)?;
        Ok(self)
    }

    /// The arguments, with the learning rate of the next step; Keras's default rate in place of a
    /// schedule of the user's own until that is given again.
    #[must_use]
    pub const fn arguments(&self) -> &AdafactorArguments {
        &self.arguments
    }

    /// The parameters: names, shapes, constraints and who is excluded from weight decay.
    #[must_use]
    pub const fn parameters(&self) -> &ParameterList {
        &self.parameters
    }

    /// The type of each parameter.
    #[must_use]
    pub fn dtypes(&self) -> &[DType] {
        &self.dtypes
    }

    /// The optimizer's state.
    #[must_use]
    pub const fn state(&self) -> &AdafactorState {
        &self.state
    }

    /// The values of the parameters, if they were saved.
    #[must_use]
    pub fn variables(&self) -> Option<&[Values]> {
        self.variables.as_deref()
    }

    /// An optimizer that continues the run. `parameters` is the caller's own list: the checkpoint
    /// has to be of the same one.
    ///
    /// # Errors
    /// As [`check`](Self::check); a schedule of the user's own that was not given again; what the
    /// backend refuses.
    pub fn restore<T: Element, O: HostOptimizer<T>>(
        &self,
        parameters: &ParameterList,
    ) -> Result<O, CheckpointError> {
        self.check(parameters, &vec![T::DTYPE; parameters.len()])?;
        let mut optimizer = O::build(self.arguments_to_resume()?, parameters)?;
        optimizer.load_state(&self.state)?;
        tracing::debug!(iterations = self.state.iterations, "optimizer restored");
        Ok(optimizer)
    }

    /// The arguments to build an optimizer from.
    ///
    /// # Errors
    /// A schedule of the user's own that was not given again.
    pub const fn arguments_to_resume(&self) -> Result<&AdafactorArguments, CheckpointError> {
        if self.lacks_schedule { Err(CheckpointError::CustomSchedule) } else { Ok(&self.arguments) }
    }

    /// Copies the saved values into the caller's parameters.
    ///
    /// # Errors
    /// A checkpoint without values; another count, length or type. Nothing is copied then.
    pub fn copy_variables_to<T: Element>(
        &self,
        parameters: &mut [&mut [T]],
    ) -> Result<(), CheckpointError> {
        let variables = self.variables.as_ref().ok_or(CheckpointError::NoVariables)?;
        self.parameters.check_parameters(parameters.iter().map(|values| values.len()))?;
        if let Some((parameter, dtype)) = self.typed().find(|(_, dtype)| *dtype != T::DTYPE) {
            let name = tensor_name("variable", parameter);
            return Err(CheckpointError::dtype(&name, &[T::DTYPE], dtype.name()));
        }
        for (target, values) in parameters.iter_mut().zip(variables) {
            target.copy_from_slice(&values.to_vec());
        }
        Ok(())
    }

    /// Checks that the checkpoint is of these parameters, in this order.
    ///
    /// # Errors
    /// The first parameter whose name, shape, type, weight decay or constraint differs.
    pub fn check(
        &self,
        parameters: &ParameterList,
        dtypes: &[DType],
    ) -> Result<(), CheckpointError> {
        parameters.check_count("types", dtypes.len())?;
        let (expected, got) = (parameters.len(), self.parameters.len());
        if expected != got {
            return Err(CheckpointError::ParameterCount { expected, got });
        }
        for ((own, own_dtype), (saved, saved_dtype)) in
            parameters.iter().zip(dtypes).zip(self.typed())
        {
            let differs = |what, expected: String, got: String| {
                let name = own.name().to_owned();
                let error = CheckpointError::Parameter { what, name, expected, got };
                Err(error)
            };
            if own.name() != saved.name() {
                return differs("name", own.name().to_owned(), saved.name().to_owned());
            }
            if own.shape() != saved.shape() {
                let (own, saved) = (own.shape(), saved.shape());
                return differs("shape", format!("{own:?}"), format!("{saved:?}"));
            }
            if *own_dtype != saved_dtype {
                return differs("type", own_dtype.to_string(), saved_dtype.to_string());
            }
            if own.decays() != saved.decays() {
                let told = |parameter: &Parameter| {
                    if parameter.decays() { "applied" } else { "excluded" }.to_owned()
                };
                return differs("weight decay", told(own), told(saved));
            }
            if own.constraint() != saved.constraint() {
                let told = |parameter: &Parameter| {
                    parameter.constraint().map_or_else(|| "none".to_owned(), |c| format!("{c:?}"))
                };
                return differs("constraint", told(own), told(saved));
            }
        }
        Ok(())
    }

    /// Writes a file. It is written under another name beside `path`, flushed to the disk and
    /// renamed, so that there is either the old file or the whole new one at any moment.
    ///
    /// # Errors
    /// What the operating system refuses; a constraint without a form in this version; so many or so
    /// long names that the header would exceed 32 MiB, which [`load`](Self::load) refuses.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), CheckpointError> {
        let path = path.as_ref();
        replace(path, |file| self.write(file)).map_err(|error| error.of_file(path))?;
        tracing::info!(path = %path.display(), iterations = self.state.iterations, "checkpoint saved");
        Ok(())
    }

    /// Writes the bytes of a file, in pieces of 64 KiB.
    ///
    /// # Errors
    /// What the writer refuses, else as [`save`](Self::save).
    pub fn write(&self, writer: &mut impl Write) -> Result<(), CheckpointError> {
        let tensors = self.tensors();
        let sums = tensors.iter().map(|t| (t.name.clone(), checksum_text(checksum(t.values))));
        let parameters = self.typed().map(|(p, dtype)| ParameterDocument::new(p, dtype));
        let document = Document::new(
            self.state.iterations,
            self.arguments_to_resume()?,
            parameters.collect::<Result<_, _>>()?,
            sums.collect(),
        )?;
        write(writer, &document, &tensors)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// A file that is missing, truncated, damaged, of another kind or version, or in which a tensor
    /// is missing, superfluous, or of the wrong shape or type: in an [`Io`](CheckpointError::Io) or a
    /// [`File`](CheckpointError::File), which name it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
        let checkpoint = File::open(path)
            .map_err(|source| CheckpointError::io("open", "checkpoint", source))
            .and_then(|file| Self::read(&mut BufReader::new(file)))
            .map_err(|error| error.of_file(path))?;
        let iterations = checkpoint.state.iterations;
        tracing::info!(path = %path.display(), iterations, "checkpoint loaded");
        Ok(checkpoint)
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CheckpointError> {
        Self::read(&mut Cursor::new(bytes))
    }

    /// Reads tensor by tensor; besides them, memory is needed for the header only.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn read(reader: &mut (impl Read + Seek)) -> Result<Self, CheckpointError> {
        let header = Header::read(reader)?;
        let document = Document::read(&header.metadata)?;
        let (arguments, lacks_schedule) = document.arguments()?;
        let (mut parameters, mut dtypes) = (Vec::new(), Vec::new());
        for parameter in &document.parameters {
            let (parameter, dtype) = parameter.parameter()?;
            parameters.push(parameter);
            dtypes.push(dtype);
        }
        let parameters = ParameterList::new(parameters)?;
        let mut source = Source { reader, header, sums: document.crc32 };
        let ema = arguments.use_ema() && source.has("average", &parameters);
        source.check_names(&parameters, ema)?;
        let mut variables = Vec::with_capacity(parameters.len());
        for (parameter, dtype) in parameters.iter().zip(&dtypes) {
            variables.push(source.state(parameter, *dtype, ema)?);
        }
        let state = AdafactorState { iterations: document.iterations, variables };
        let mut checkpoint = Self::new(&arguments, &parameters, &dtypes, state)?;
        checkpoint.lacks_schedule = lacks_schedule;
        if source.has("variable", &parameters) {
            let values = parameters.iter().zip(&dtypes).map(|(parameter, dtype)| {
                source.tensor("variable", parameter, parameter.shape(), &[*dtype])
            });
            checkpoint.variables = Some(values.collect::<Result<_, _>>()?);
        }
        Ok(checkpoint)
    }

    fn typed(&self) -> impl Iterator<Item = (&Parameter, DType)> {
        self.parameters.iter().zip(self.dtypes.iter().copied())
    }

    /// All tensors, the widest type first.
    fn tensors(&self) -> Vec<Tensor<'_>> {
        let mut tensors = Vec::new();
        for (index, (parameter, state)) in
            self.parameters.iter().zip(&self.state.variables).enumerate()
        {
            let value = self.variables.iter().map(|values| ("variable", &values[index]));
            for (kind, values) in fields(state).chain(value) {
                let (name, shape) = (tensor_name(kind, parameter), tensor_shape(kind, parameter));
                tensors.push(Tensor { name, shape, values });
            }
        }
        tensors.sort_by_key(|tensor| std::cmp::Reverse(tensor.values.dtype().bytes()));
        tensors
    }
}

/// The tensors of a file and where they lie.
struct Source<'a, R> {
    reader: &'a mut R,
    header: Header,
    sums: BTreeMap<String, String>,
}

impl<R: Read + Seek> Source<'_, R> {
    fn has(&self, kind: &str, parameters: &ParameterList) -> bool {
        parameters
            .iter()
            .any(|parameter| self.header.tensors.contains_key(&tensor_name(kind, parameter)))
    }

    /// Refuses tensors that belong to no parameter, and checksums without a tensor.
    fn check_names(&self, parameters: &ParameterList, ema: bool) -> Result<(), CheckpointError> {
        let mut known: Vec<String> = Vec::new();
        for parameter in parameters {
            let average = ema.then_some("average");
            let kinds = moment_kinds(parameter).iter().copied().chain(average);
            known.extend(kinds.chain(["variable"]).map(|kind| tensor_name(kind, parameter)));
        }
        known.sort_unstable();
        let unknown = |name: &&String| known.binary_search(name).is_err();
        if let Some(name) = self.header.tensors.keys().find(unknown) {
            return Err(CheckpointError::UnexpectedTensor { name: name.clone() });
        }
        match self.sums.keys().find(|name| !self.header.tensors.contains_key(*name)) {
            Some(name) => Err(CheckpointError::MissingTensor { name: name.clone() }),
            None => Ok(()),
        }
    }

    fn state(
        &mut self,
        parameter: &Parameter,
        dtype: DType,
        ema: bool,
    ) -> Result<VariableState, CheckpointError> {
        let allowed = state_dtypes(dtype);
        let mut tensor =
            |kind| self.tensor(kind, parameter, &tensor_shape(kind, parameter), &allowed);
        let second_moment = match parameter.layout() {
            Layout::Full { .. } => SecondMoment::Full(tensor("second_moment")?),
            Layout::Factored { .. } => SecondMoment::Factored {
                row_factor: tensor("row_factor")?,
                column_factor: tensor("column_factor")?,
            },
        };
        let average = if ema { Some(tensor("average")?) } else { None };
        Ok(VariableState { second_moment, average })
    }

    fn tensor(
        &mut self,
        kind: &str,
        parameter: &Parameter,
        shape: &[usize],
        allowed: &[DType],
    ) -> Result<Values, CheckpointError> {
        let name = tensor_name(kind, parameter);
        let Some(entry) = self.header.tensors.get(&name) else {
            return Err(CheckpointError::MissingTensor { name });
        };
        let dtype = check_entry(entry, &name, shape, allowed)?;
        // The header's reader has proven that these bytes are in the file and as many as the shape says.
        let start = self.header.data_start.saturating_add(entry.data_offsets[0]);
        let elements = shape.iter().product();
        let (values, sum) = self
            .reader
            .seek(SeekFrom::Start(start))
            .and_then(|_| read(self.reader, dtype, elements))
            .map_err(|source| CheckpointError::io("read", name.as_str(), source))?;
        let (expected, got) = (self.sums.get(&name), checksum_text(sum));
        if expected != Some(&got) {
            let expected = expected.map_or_else(|| "of the metadata".to_owned(), String::clone);
            return Err(CheckpointError::TensorData { name, expected, got });
        }
        Ok(values)
    }
}

fn check_entry(
    entry: &Entry,
    name: &str,
    shape: &[usize],
    allowed: &[DType],
) -> Result<DType, CheckpointError> {
    if entry.shape != shape {
        let (name, expected, got) = (name.to_owned(), shape.to_vec(), entry.shape.clone());
        return Err(CheckpointError::TensorShape { name, expected, got });
    }
    match entry.dtype() {
        Some(dtype) if allowed.contains(&dtype) => Ok(dtype),
        Some(dtype) => Err(CheckpointError::dtype(name, allowed, dtype.name())),
        None => Err(CheckpointError::dtype(name, allowed, entry.dtype.as_str())),
    }
}

/// The types in which a backend may keep the state of a parameter.
fn state_dtypes(dtype: DType) -> Vec<DType> {
    match dtype {
        DType::Float64 | DType::Float32 => vec![dtype],
        DType::Bfloat16 | DType::Float16 => vec![dtype, DType::Float32],
    }
}

/// The tensors of a parameter's state, each with its kind.
fn fields(state: &VariableState) -> impl Iterator<Item = (&'static str, &Values)> {
    let moment = match &state.second_moment {
        SecondMoment::Full(values) => [Some(("second_moment", values)), None],
        SecondMoment::Factored { row_factor, column_factor } => {
            [Some(("row_factor", row_factor)), Some(("column_factor", column_factor))]
        }
    };
    let average = state.average.iter().map(|values| ("average", values));
    moment.into_iter().flatten().chain(average)
}

fn moment_kinds(parameter: &Parameter) -> &'static [&'static str] {
    match parameter.layout() {
        Layout::Full { .. } => &["second_moment"],
        Layout::Factored { .. } => &["row_factor", "column_factor"],
    }
}

fn tensor_name(kind: &str, parameter: &Parameter) -> String {
    format!("{kind}/{}", parameter.name())
}

fn tensor_shape(kind: &str, parameter: &Parameter) -> Vec<usize> {
    match (kind, parameter.shape()) {
        ("row_factor", [leading @ .., _]) => leading.to_vec(),
        ("column_factor", [leading @ .., _, columns]) => [leading, &[*columns]].concat(),
        (_, shape) => shape.to_vec(),
    }
}
