//! Steps on ndarray views of any memory layout.

use goldstep_core::{Error, Gradient, HostOptimizer, ParameterList, StepReport};
use ndarray::{ArrayViewD, ArrayViewMutD};

use crate::adafactor::Adafactor;
use crate::real::CpuElement;

impl<T: CpuElement> Adafactor<T> {
    /// One step on array views. A missing gradient leaves its parameter untouched.
    ///
    /// A view in standard layout (contiguous, row-major) is updated where it lies. Any other –
    /// axes in another order, strides, negative steps – is copied, updated and copied back: right,
    /// and slower.
    ///
    /// # Errors
    /// As [`HostOptimizer::step`], and another shape than planned; nothing is changed then.
    ///
    /// # Example
    /// ```
    /// use goldstep_core::{AdafactorArguments, HostOptimizer, Parameter, ParameterList};
    /// use goldstep_cpu::Adafactor;
    /// use ndarray::Array2;
    ///
    /// let list = ParameterList::new(vec![Parameter::new("kernel", &[3, 2])?])?;
    /// let mut optimizer = Adafactor::build(&AdafactorArguments::default(), &list)?;
    /// // Stored by columns: its transposed view is a 3 × 2 matrix.
    /// let mut kernel = Array2::<f32>::ones((2, 3));
    /// let gradient = Array2::<f32>::from_elem((3, 2), 0.5);
    /// optimizer.step_views(
    ///     &mut [kernel.view_mut().reversed_axes().into_dyn()],
    ///     &[Some(gradient.view().into_dyn())],
    /// )?;
    /// assert!(kernel.iter().all(|&x| x < 1.0));
    /// # Ok::<(), goldstep_core::Error>(())
    /// ```
    pub fn step_views(
        &mut self,
        parameters: &mut [ArrayViewMutD<'_, T>],
        gradients: &[Option<ArrayViewD<'_, T>>],
    ) -> Result<StepReport, Error> {
        let list = self.parameters();
        list.check_count("parameters", parameters.len())?;
        list.check_count("gradients", gradients.len())?;
        for (index, parameter) in parameters.iter().enumerate() {
            check_shape(list, index, "parameter", parameter.shape())?;
        }
        for (index, gradient) in gradients.iter().enumerate() {
            if let Some(gradient) = gradient {
                check_shape(list, index, "gradient", gradient.shape())?;
            }
        }
        let gradient_copies: Vec<_> =
            gradients.iter().map(|g| g.as_ref().map(|g| g.as_standard_layout())).collect();
        let mut parameter_copies: Vec<_> = parameters.iter_mut().map(InPlace::of).collect();
        let gradients: Vec<_> = gradient_copies
            .iter()
            .map(|copy| copy.as_ref().and_then(|copy| copy.as_slice()).map(Gradient::Dense))
            .collect();
        let report = {
            let mut slices: Vec<&mut [T]> =
                parameter_copies.iter_mut().map(InPlace::elements).collect();
            self.step(&mut slices, &gradients)?
        };
        parameter_copies.into_iter().for_each(InPlace::write_back);
        Ok(report)
    }
}

fn check_shape(
    list: &ParameterList,
    index: usize,
    what: &'static str,
    got: &[usize],
) -> Result<(), Error> {
    let parameter = &list[index];
    if parameter.shape() == got {
        Ok(())
    } else {
        let (name, expected) = (parameter.name().to_owned(), parameter.shape().to_vec());
        Err(Error::Shape { what, name, expected, got: got.to_vec() })
    }
}

/// The elements of a view in row-major order: the view's own, or a copy.
enum InPlace<'a, 'v, T> {
    Own(&'a mut [T]),
    Copy(Vec<T>, &'a mut ArrayViewMutD<'v, T>),
}

impl<'a, 'v, T: CpuElement> InPlace<'a, 'v, T> {
    fn of(view: &'a mut ArrayViewMutD<'v, T>) -> Self {
        if view.is_standard_layout() {
            // A view in standard layout has a slice.
            Self::Own(view.as_slice_mut().unwrap_or_default())
        } else {
            Self::Copy(view.iter().copied().collect(), view)
        }
    }

    fn elements(&mut self) -> &mut [T] {
        match self {
            Self::Own(elements) => elements,
            Self::Copy(elements, _) => elements,
        }
    }

    fn write_back(self) {
        if let Self::Copy(elements, view) = self {
            for (target, element) in view.iter_mut().zip(elements) {
                *target = element;
            }
        }
    }
}
