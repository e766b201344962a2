//! What tf.keras gave in ema/ema-every-3-momentum-0.5-bf16.
//!
//! A file for `tests/` of a crate that needs goldstep-core, goldstep-reference, half.

use goldstep_core::{AdafactorArguments, Error, Gradient, HostOptimizer, Parameter, ParameterList, SecondMoment, VariableState};
use goldstep_reference::Adafactor;

#[test]
fn ema_every_3_momentum_0_5_bf16() -> Result<(), Error> {
    let arguments = AdafactorArguments::builder()
        .learning_rate(0.3)
        .use_ema(true)
        .ema_momentum(0.5)
        .ema_overwrite_frequency(3)
        .build()?;
    let parameters = ParameterList::new(vec![
        Parameter::new("scalar", &[])?,
        Parameter::new("bias", &[3])?,
        Parameter::new("kernel", &[2, 3])?,
    ])?;
    let mut optimizer =
        Adafactor::<half::bf16>::build(&arguments, &parameters)?;
    // scalar
    let mut x0 = ([1.578125] as [f32; 1]).map(half::bf16::from_f32);
    // bias
    let mut x1 = ([-0.64453125, -1.421875, -1.421875] as [f32; 3]).map(half::bf16::from_f32);
    // kernel
    let mut x2 = ([0.5390625, -0.80078125, -0.81640625, 1.5078125, -0.3203125, 1.109375] as [f32; 6]).map(half::bf16::from_f32);

    // Step 1
    let report = optimizer.step(
        &mut [&mut x0, &mut x1, &mut x2],
        &[
            Some(Gradient::Dense(&([-0.98828125] as [f32; 1]).map(half::bf16::from_f32))),
            Some(Gradient::Dense(&([0.5859375, -0.703125, -1.140625] as [f32; 3]).map(half::bf16::from_f32))),
            Some(Gradient::Dense(&([-0.609375, 0.71875, -0.828125, -0.40039063, 1.609375, -0.96875] as [f32; 6]).map(half::bf16::from_f32))),
        ],
    )?;
    assert_eq!(report.iterations, 1);
    let rate = [f64::from(report.learning_rate)];
    assert_close("learning rate", &rate, &[0.30000001192092896], 9.5367431640625e-7, 0.0);
    let state = optimizer.state();
    assert_close("v of scalar", &optimizer.second_moment(0), &([0.9765625] as [f32; 1]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("var of scalar", &x0, &([2.046875] as [f32; 1]).map(half::bf16::from_f32), 0e0, 6.7962646484375e-2);
    assert_close("ema of scalar", &average(&state.variables[0]), &([1.8125] as [f32; 1]).map(half::bf16::from_f32), 0e0, 6.7962646484375e-2);
    assert_close("v of bias", &optimizer.second_moment(1), &([0.34375, 0.49414063, 1.3046875] as [f32; 3]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("var of bias", &x1, &([-1.0078125, -1.0546875, -1.0546875] as [f32; 3]).map(half::bf16::from_f32), 0e0, 4.7210693359375e-2);
    assert_close("ema of bias", &average(&state.variables[1]), &([-0.828125, -1.234375, -1.234375] as [f32; 3]).map(half::bf16::from_f32), 0e0, 4.7210693359375e-2);
    assert_close("r of kernel", &factors(&state.variables[2]).0, &([0.52734375, 1.2265625] as [f32; 2]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("c of kernel", &factors(&state.variables[2]).1, &([0.265625, 1.5546875, 0.8125] as [f32; 3]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("v of kernel", &optimizer.second_moment(2), &([0.16015625, 0.93359375, 0.48828125, 0.37109375, 2.171875, 1.1328125] as [f32; 6]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("var of kernel", &x2, &([0.9453125, -1.0, -0.5, 1.6796875, -0.609375, 1.3515625] as [f32; 6]).map(half::bf16::from_f32), 0e0, 5.57708740234375e-2);
    assert_close("ema of kernel", &average(&state.variables[2]), &([0.7421875, -0.8984375, -0.65625, 1.59375, -0.46484375, 1.234375] as [f32; 6]).map(half::bf16::from_f32), 0e0, 5.57708740234375e-2);

    // Step 2
    let report = optimizer.step(
        &mut [&mut x0, &mut x1, &mut x2],
        &[
            Some(Gradient::Dense(&([0.32421875] as [f32; 1]).map(half::bf16::from_f32))),
            Some(Gradient::Dense(&([0.125, 0.24316406, -0.578125] as [f32; 3]).map(half::bf16::from_f32))),
            Some(Gradient::Dense(&([0.18652344, -0.1796875, 0.61328125, 0.23046875, -0.29882813, -0.6015625] as [f32; 6]).map(half::bf16::from_f32))),
        ],
    )?;
    assert_eq!(report.iterations, 2);
    let rate = [f64::from(report.learning_rate)];
    assert_close("learning rate", &rate, &[0.30000001192092896], 9.5367431640625e-7, 0.0);
    let state = optimizer.state();
    assert_close("v of scalar", &optimizer.second_moment(0), &([0.4765625] as [f32; 1]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("var of scalar", &x0, &([1.7578125] as [f32; 1]).map(half::bf16::from_f32), 0e0, 7.196044921875e-2);
    assert_close("ema of scalar", &average(&state.variables[0]), &([1.78125] as [f32; 1]).map(half::bf16::from_f32), 0e0, 7.196044921875e-2);
    assert_close("v of bias", &optimizer.second_moment(1), &([0.15527344, 0.24414063, 0.74609375] as [f32; 3]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("var of bias", &x1, &([-1.109375, -1.2109375, -0.84375] as [f32; 3]).map(half::bf16::from_f32), 0e0, 4.998779296875e-2);
    assert_close("ema of bias", &average(&state.variables[1]), &([-0.96875, -1.21875, -1.0390625] as [f32; 3]).map(half::bf16::from_f32), 0e0, 4.998779296875e-2);
    assert_close("r of kernel", &factors(&state.variables[2]).0, &([0.31054688, 0.62109375] as [f32; 2]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("c of kernel", &factors(&state.variables[2]).1, &([0.13867188, 0.6953125, 0.55859375] as [f32; 3]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("v of kernel", &optimizer.second_moment(2), &([0.09277344, 0.46484375, 0.37304688, 0.18554688, 0.9296875, 0.74609375] as [f32; 6]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("var of kernel", &x2, &([0.7421875, -0.9140625, -0.828125, 1.5078125, -0.5078125, 1.578125] as [f32; 6]).map(half::bf16::from_f32), 0e0, 5.9051513671875e-2);
    assert_close("ema of kernel", &average(&state.variables[2]), &([0.7421875, -0.90625, -0.7421875, 1.546875, -0.48632813, 1.40625] as [f32; 6]).map(half::bf16::from_f32), 0e0, 5.9051513671875e-2);

    // Step 3
    let report = optimizer.step(
        &mut [&mut x0, &mut x1, &mut x2],
        &[
            Some(Gradient::Dense(&([-1.8984375] as [f32; 1]).map(half::bf16::from_f32))),
            Some(Gradient::Dense(&([-0.83203125, -0.89453125, -1.0859375] as [f32; 3]).map(half::bf16::from_f32))),
            Some(Gradient::Dense(&([-1.015625, -2.40625, -2.625, -0.53125, -1.8515625, 1.7265625] as [f32; 6]).map(half::bf16::from_f32))),
        ],
    )?;
    assert_eq!(report.iterations, 3);
    let rate = [f64::from(report.learning_rate)];
    assert_close("learning rate", &rate, &[0.30000001192092896], 9.5367431640625e-7, 0.0);
    let state = optimizer.state();
    assert_close("v of scalar", &optimizer.second_moment(0), &([1.7734375] as [f32; 1]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("var of scalar", &x0, &([2.03125] as [f32; 1]).map(half::bf16::from_f32), 0e0, 7.5958251953125e-2);
    assert_close("ema of scalar", &average(&state.variables[0]), &([2.03125] as [f32; 1]).map(half::bf16::from_f32), 0e0, 7.5958251953125e-2);
    assert_close("v of bias", &optimizer.second_moment(1), &([0.37890625, 0.47460938, 0.92578125] as [f32; 3]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("var of bias", &x1, &([-0.8671875, -1.046875, -0.796875] as [f32; 3]).map(half::bf16::from_f32), 0e0, 5.2764892578125e-2);
    assert_close("ema of bias", &average(&state.variables[1]), &([-0.8671875, -1.046875, -0.796875] as [f32; 3]).map(half::bf16::from_f32), 0e0, 5.2764892578125e-2);
    assert_close("r of kernel", &factors(&state.variables[2]).0, &([2.078125, 1.2890625] as [f32; 2]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("c of kernel", &factors(&state.variables[2]).1, &([0.3515625, 2.3125, 2.375] as [f32; 3]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("v of kernel", &optimizer.second_moment(2), &([0.43359375, 2.859375, 2.9375, 0.26953125, 1.7734375, 1.8203125] as [f32; 6]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("var of kernel", &x2, &([0.921875, -0.7421875, -0.60546875, 1.6484375, -0.33203125, 1.34375] as [f32; 6]).map(half::bf16::from_f32), 0e0, 6.23321533203125e-2);
    assert_close("ema of kernel", &average(&state.variables[2]), &([0.921875, -0.7421875, -0.60546875, 1.6484375, -0.33203125, 1.34375] as [f32; 6]).map(half::bf16::from_f32), 0e0, 6.23321533203125e-2);

    // Step 4
    let report = optimizer.step(
        &mut [&mut x0, &mut x1, &mut x2],
        &[
            Some(Gradient::Dense(&([-0.76953125] as [f32; 1]).map(half::bf16::from_f32))),
            Some(Gradient::Dense(&([-0.49023438, 1.09375, -1.0078125] as [f32; 3]).map(half::bf16::from_f32))),
            Some(Gradient::Dense(&([0.71875, -1.0859375, 0.6640625, 0.36914063, 0.49414063, -0.73828125] as [f32; 6]).map(half::bf16::from_f32))),
        ],
    )?;
    assert_eq!(report.iterations, 4);
    let rate = [f64::from(report.learning_rate)];
    assert_close("learning rate", &rate, &[0.30000001192092896], 9.5367431640625e-7, 0.0);
    let state = optimizer.state();
    assert_close("v of scalar", &optimizer.second_moment(0), &([1.390625] as [f32; 1]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("var of scalar", &x0, &([2.4375] as [f32; 1]).map(half::bf16::from_f32), 0e0, 9.521484375e-2);
    assert_close("ema of scalar", &average(&state.variables[0]), &([2.234375] as [f32; 1]).map(half::bf16::from_f32), 0e0, 9.521484375e-2);
    assert_close("v of bias", &optimizer.second_moment(1), &([0.33203125, 0.7109375, 0.953125] as [f32; 3]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("var of bias", &x1, &([-0.65234375, -1.375, -0.53515625] as [f32; 3]).map(half::bf16::from_f32), 0e0, 5.55419921875e-2);
    assert_close("ema of bias", &average(&state.variables[1]), &([-0.7578125, -1.2109375, -0.6640625] as [f32; 3]).map(half::bf16::from_f32), 0e0, 5.55419921875e-2);
    assert_close("r of kernel", &factors(&state.variables[2]).0, &([1.6328125, 0.96875] as [f32; 2]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("c of kernel", &factors(&state.variables[2]).1, &([0.34375, 1.7890625, 1.7578125] as [f32; 3]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("v of kernel", &optimizer.second_moment(2), &([0.43164063, 2.25, 2.21875, 0.25585938, 1.3359375, 1.3125] as [f32; 6]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("var of kernel", &x2, &([0.58203125, -0.515625, -0.7421875, 1.421875, -0.46484375, 1.546875] as [f32; 6]).map(half::bf16::from_f32), 0e0, 6.561279296875e-2);
    assert_close("ema of kernel", &average(&state.variables[2]), &([0.75, -0.62890625, -0.671875, 1.53125, -0.3984375, 1.4453125] as [f32; 6]).map(half::bf16::from_f32), 0e0, 6.561279296875e-2);

    // Step 5
    let report = optimizer.step(
        &mut [&mut x0, &mut x1, &mut x2],
        &[
            Some(Gradient::Dense(&([-1.6875] as [f32; 1]).map(half::bf16::from_f32))),
            Some(Gradient::Dense(&([-0.984375, 1.3359375, 1.9140625] as [f32; 3]).map(half::bf16::from_f32))),
            Some(Gradient::Dense(&([1.6875, -1.1328125, -1.90625, 1.8203125, -0.83203125, 0.6640625] as [f32; 6]).map(half::bf16::from_f32))),
        ],
    )?;
    assert_eq!(report.iterations, 5);
    let rate = [f64::from(report.learning_rate)];
    assert_close("learning rate", &rate, &[0.30000001192092896], 9.5367431640625e-7, 0.0);
    let state = optimizer.state();
    assert_close("v of scalar", &optimizer.second_moment(0), &([1.78125] as [f32; 1]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("var of scalar", &x0, &([3.171875] as [f32; 1]).map(half::bf16::from_f32), 0e0, 1.30096435546875e-1);
    assert_close("ema of scalar", &average(&state.variables[0]), &([2.703125] as [f32; 1]).map(half::bf16::from_f32), 0e0, 1.30096435546875e-1);
    assert_close("v of bias", &optimizer.second_moment(1), &([0.5078125, 1.0, 1.6875] as [f32; 3]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("var of bias", &x1, &([-0.37695313, -1.640625, -0.828125] as [f32; 3]).map(half::bf16::from_f32), 0e0, 6.7291259765625e-2);
    assert_close("ema of bias", &average(&state.variables[1]), &([-0.56640625, -1.421875, -0.74609375] as [f32; 3]).map(half::bf16::from_f32), 0e0, 6.7291259765625e-2);
    assert_close("r of kernel", &factors(&state.variables[2]).0, &([1.890625, 1.109375] as [f32; 2]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("c of kernel", &factors(&state.variables[2]).1, &([1.09375, 1.5625, 1.828125] as [f32; 3]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("v of kernel", &optimizer.second_moment(2), &([1.375, 1.96875, 2.296875, 0.80859375, 1.15625, 1.3515625] as [f32; 6]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("var of kernel", &x2, &([0.24414063, -0.32421875, -0.4453125, 0.9453125, -0.28320313, 1.4140625] as [f32; 6]).map(half::bf16::from_f32), 0e0, 6.88934326171875e-2);
    assert_close("ema of kernel", &average(&state.variables[2]), &([0.49609375, -0.4765625, -0.55859375, 1.234375, -0.33984375, 1.4296875] as [f32; 6]).map(half::bf16::from_f32), 0e0, 6.88934326171875e-2);

    // Step 6
    let report = optimizer.step(
        &mut [&mut x0, &mut x1, &mut x2],
        &[
            Some(Gradient::Dense(&([-0.7734375] as [f32; 1]).map(half::bf16::from_f32))),
            Some(Gradient::Dense(&([-1.421875, 1.40625, 1.390625] as [f32; 3]).map(half::bf16::from_f32))),
            Some(Gradient::Dense(&([1.0078125, 1.1640625, 0.65625, -1.484375, -1.5, 1.2734375] as [f32; 6]).map(half::bf16::from_f32))),
        ],
    )?;
    assert_eq!(report.iterations, 6);
    let rate = [f64::from(report.learning_rate)];
    assert_close("learning rate", &rate, &[0.30000001192092896], 9.5367431640625e-7, 0.0);
    let state = optimizer.state();
    assert_close("v of scalar", &optimizer.second_moment(0), &([1.5] as [f32; 1]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("var of scalar", &x0, &([3.25] as [f32; 1]).map(half::bf16::from_f32), 0e0, 1.396484375e-1);
    assert_close("ema of scalar", &average(&state.variables[0]), &([3.25] as [f32; 1]).map(half::bf16::from_f32), 0e0, 1.396484375e-1);
    assert_close("v of bias", &optimizer.second_moment(1), &([0.8671875, 1.234375, 1.75] as [f32; 3]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("var of bias", &x1, &([-0.27929688, -1.6875, -0.921875] as [f32; 3]).map(half::bf16::from_f32), 0e0, 7.2509765625e-2);
    assert_close("ema of bias", &average(&state.variables[1]), &([-0.27929688, -1.6875, -0.921875] as [f32; 3]).map(half::bf16::from_f32), 0e0, 7.2509765625e-2);
    assert_close("r of kernel", &factors(&state.variables[2]).0, &([1.6640625, 1.328125] as [f32; 2]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("c of kernel", &factors(&state.variables[2]).1, &([1.21875, 1.6171875, 1.640625] as [f32; 3]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("v of kernel", &optimizer.second_moment(2), &([1.3515625, 1.796875, 1.8203125, 1.078125, 1.4375, 1.453125] as [f32; 6]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("var of kernel", &x2, &([0.27734375, -0.49414063, -0.5546875, 1.2421875, -0.17675781, 1.3125] as [f32; 6]).map(half::bf16::from_f32), 0e0, 7.2174072265625e-2);
    assert_close("ema of kernel", &average(&state.variables[2]), &([0.27734375, -0.49414063, -0.5546875, 1.2421875, -0.17675781, 1.3125] as [f32; 6]).map(half::bf16::from_f32), 0e0, 7.2174072265625e-2);

    // Step 7
    let report = optimizer.step(
        &mut [&mut x0, &mut x1, &mut x2],
        &[
            Some(Gradient::Dense(&([0.20605469] as [f32; 1]).map(half::bf16::from_f32))),
            Some(Gradient::Dense(&([0.18652344, -0.62109375, 0.61328125] as [f32; 3]).map(half::bf16::from_f32))),
            Some(Gradient::Dense(&([0.5859375, -0.3046875, 0.21972656, 0.5546875, 0.19824219, 0.65234375] as [f32; 6]).map(half::bf16::from_f32))),
        ],
    )?;
    assert_eq!(report.iterations, 7);
    let rate = [f64::from(report.learning_rate)];
    assert_close("learning rate", &rate, &[0.30000001192092896], 9.5367431640625e-7, 0.0);
    let state = optimizer.state();
    assert_close("v of scalar", &optimizer.second_moment(0), &([1.1953125] as [f32; 1]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("var of scalar", &x0, &([3.0625] as [f32; 1]).map(half::bf16::from_f32), 0e0, 1.4599609375e-1);
    assert_close("ema of scalar", &average(&state.variables[0]), &([3.15625] as [f32; 1]).map(half::bf16::from_f32), 0e0, 1.4599609375e-1);
    assert_close("v of bias", &optimizer.second_moment(1), &([0.69140625, 1.0546875, 1.4609375] as [f32; 3]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("var of bias", &x1, &([-0.35546875, -1.484375, -1.09375] as [f32; 3]).map(half::bf16::from_f32), 0e0, 7.58056640625e-2);
    assert_close("ema of bias", &average(&state.variables[1]), &([-0.31640625, -1.5859375, -1.0078125] as [f32; 3]).map(half::bf16::from_f32), 0e0, 7.58056640625e-2);
    assert_close("r of kernel", &factors(&state.variables[2]).0, &([1.34375, 1.1015625] as [f32; 2]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("c of kernel", &factors(&state.variables[2]).1, &([1.03125, 1.2890625, 1.34375] as [f32; 3]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("v of kernel", &optimizer.second_moment(2), &([1.1328125, 1.421875, 1.4765625, 0.9296875, 1.1640625, 1.2109375] as [f32; 6]).map(half::bf16::from_f32), 1.875e-1, 1.1754943508222875e-38);
    assert_close("var of kernel", &x2, &([0.14355469, -0.43164063, -0.59765625, 1.1015625, -0.22167969, 1.171875] as [f32; 6]).map(half::bf16::from_f32), 0e0, 7.54547119140625e-2);
    assert_close("ema of kernel", &average(&state.variables[2]), &([0.2109375, -0.46289063, -0.578125, 1.171875, -0.19921875, 1.2421875] as [f32; 6]).map(half::bf16::from_f32), 0e0, 7.54547119140625e-2);

    optimizer.finalize_variable_values(&mut [&mut x0, &mut x1, &mut x2])?;
    assert_close("finalized scalar", &x0, &([3.15625] as [f32; 1]).map(half::bf16::from_f32), 0e0, 1.015625e-1);
    assert_close("finalized bias", &x1, &([-0.31640625, -1.5859375, -1.0078125] as [f32; 3]).map(half::bf16::from_f32), 0e0, 5.2734375e-2);
    assert_close("finalized kernel", &x2, &([0.2109375, -0.46289063, -0.578125, 1.171875, -0.19921875, 1.2421875] as [f32; 6]).map(half::bf16::from_f32), 0e0, 5.2490234375e-2);
    Ok(())
}

fn assert_close<T: Copy + Into<f64>>(
    what: &str,
    actual: &[T],
    expected: &[T],
    relative: f64,
    absolute: f64,
) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        let (actual, expected): (f64, f64) = ((*actual).into(), (*expected).into());
        let same = actual.to_bits() == expected.to_bits() || actual.is_nan() && expected.is_nan();
        let near = (actual - expected).abs() <= relative * expected.abs() + absolute;
        assert!(same || near, "{what}[{index}]: expected {expected:e}, got {actual:e}");
    }
}

fn factors(state: &VariableState) -> (Vec<half::bf16>, Vec<half::bf16>) {
    match &state.second_moment {
        SecondMoment::Factored { row_factor, column_factor } => {
            (row_factor.to_vec(), column_factor.to_vec())
        }
        SecondMoment::Full(values) => (values.to_vec(), Vec::new()),
    }
}

fn average(state: &VariableState) -> Vec<half::bf16> {
    state.average.as_ref().map(|average| average.to_vec()).unwrap_or_default()
}
