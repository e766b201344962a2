//! The parameter lists of models that people train.
//!
//! Shapes and order are those of the checkpoints that Hugging Face publishes; a linear layer's
//! kernel is `[out, in]`. The tests hold the published numbers of parameters.

use crate::workloads::Workload;

/// T5-small, 60.5 million parameters in 131 tensors: 6 + 6 layers, model 512, feed-forward 2048,
/// 8 heads, vocabulary 32,128, one embedding for input and output.
///
/// Source: Raffel et al. 2020, <https://arxiv.org/abs/1910.10683>, and the `config.json` of
/// <https://huggingface.co/google-t5/t5-small>.
#[must_use]
pub fn t5_small() -> Workload {
    const LAYERS: usize = 6;
    const MODEL: usize = 512;
    const FEED_FORWARD: usize = 2048;
    let attention = || vec![vec![MODEL, MODEL]; 4];
    let norm = || vec![MODEL];
    let mut shapes = vec![vec![32_128, MODEL]];
    for is_decoder in [false, true] {
        for layer in 0..LAYERS {
            shapes.extend(attention());
            if layer == 0 {
                // The relative attention bias, which the layers of a stack share.
                shapes.push(vec![32, 8]);
            }
            shapes.push(norm());
            if is_decoder {
                shapes.extend(attention());
                shapes.push(norm());
            }
            shapes.extend([vec![FEED_FORWARD, MODEL], vec![MODEL, FEED_FORWARD], norm()]);
        }
        shapes.push(norm());
    }
    Workload { name: "T5-small".to_owned(), shapes }
}

/// BERT-base, uncased, 109.5 million parameters in 199 tensors: 12 layers, model 768, feed-forward
/// 3072, vocabulary 30,522, with the pooler and without a head.
///
/// Source: Devlin et al. 2019, <https://arxiv.org/abs/1810.04805>, and the `config.json` of
/// <https://huggingface.co/google-bert/bert-base-uncased>.
#[must_use]
pub fn bert_base() -> Workload {
    const LAYERS: usize = 12;
    const MODEL: usize = 768;
    const FEED_FORWARD: usize = 3072;
    let linear = |output: usize, input: usize| [vec![output, input], vec![output]];
    let norm = || [vec![MODEL], vec![MODEL]];
    let mut shapes = vec![vec![30_522, MODEL], vec![512, MODEL], vec![2, MODEL]];
    shapes.extend(norm());
    for _ in 0..LAYERS {
        // Query, key, value and output of the attention.
        (0..4).for_each(|_| shapes.extend(linear(MODEL, MODEL)));
        shapes.extend(norm());
        shapes.extend(linear(FEED_FORWARD, MODEL));
        shapes.extend(linear(MODEL, FEED_FORWARD));
        shapes.extend(norm());
    }
    shapes.extend(linear(MODEL, MODEL));
    Workload { name: "BERT-base".to_owned(), shapes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_have_their_published_sizes() {
        let sizes = |model: &Workload| (model.shapes.len(), model.elements());
        assert_eq!(sizes(&t5_small()), (131, 60_506_624));
        assert_eq!(sizes(&bert_base()), (199, 109_482_240));
    }
}
