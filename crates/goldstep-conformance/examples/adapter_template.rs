//! An adapter for Goldstep: `cargo xtask adapter check -- target/release/NAME`. Fill in `Mine`.

use goldstep_conformance::protocol::{ServeError, serve};
use goldstep_conformance::{
    BuildRequest, Capabilities, Description, Failure, GradientValues, Implementation, StateRequest,
    StepRequest, StepResponse,
};

/// Plain gradient descent, until you put your optimizer here.
struct Mine {
    description: Description,
    learning_rate: f64,
    response: StepResponse,
}

impl Implementation for Mine {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn build(&mut self, request: &BuildRequest<'_>) -> Result<(), Failure> {
        let rate = request.arguments.get("learning_rate");
        self.learning_rate = rate.and_then(|rate| rate.as_f64()).unwrap_or(0.001);
        let variables = request.variables.iter().map(|variable| variable.initial.clone()).collect();
        self.response = StepResponse { variables, ..StepResponse::default() };
        Ok(())
    }

    fn set_state(&mut self, request: &StateRequest<'_>) -> Result<(), Failure> {
        self.response.iterations = request.iterations;
        self.response.variables = request.variables.iter().map(|values| values.to_vec()).collect();
        Ok(())
    }

    fn step(&mut self, request: &StepRequest<'_>) -> Result<StepResponse, Failure> {
        for (variable, gradient) in self.response.variables.iter_mut().zip(request.gradients) {
            let Some(GradientValues::Dense(gradient)) = gradient else { continue };
            variable.iter_mut().zip(gradient).for_each(|(x, g)| *x -= self.learning_rate * g);
        }
        self.response.iterations += 1;
        Ok(StepResponse { learning_rate: self.learning_rate, ..self.response.clone() })
    }

    fn finalize(&mut self) -> Result<Vec<Vec<f64>>, Failure> {
        Err(Failure::Skip { reason: "finalize".into() })
    }
}

fn main() -> Result<(), ServeError> {
    let capabilities = Capabilities::minimal("goldstep");
    let description = Description::new("mine", "0.1", "Rust", "main.rs", capabilities);
    let mut mine = Mine { description, learning_rate: 0.0, response: StepResponse::default() };
    serve(&mut mine, std::io::stdin().lock(), std::io::stdout().lock())
}
