//! Lists of shapes that people train.

/// A named list of shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Its name in tables.
    pub name: String,
    /// The shape of each parameter.
    pub shapes: Vec<Vec<usize>>,
}

impl Workload {
    /// One matrix.
    #[must_use]
    pub fn matrix(rows: usize, columns: usize) -> Self {
        let name =
            if rows == columns { format!("{rows}²") } else { format!("{rows} × {columns}") };
        Self { name, shapes: vec![vec![rows, columns]] }
    }

    /// One parameter of any shape.
    #[must_use]
    pub fn one(shape: &[usize]) -> Self {
        let axes: Vec<String> = shape.iter().map(ToString::to_string).collect();
        Self { name: axes.join(" × "), shapes: vec![shape.to_vec()] }
    }

    /// Many small parameters: half vectors of 512, half matrices of 16 × 32.
    #[must_use]
    pub fn many_small(count: usize) -> Self {
        let shape = |index: usize| if index.is_multiple_of(2) { vec![512] } else { vec![16, 32] };
        Self { name: format!("{count} small"), shapes: (0..count).map(shape).collect() }
    }

    /// The parameters of T5-small, 60.5 million, as Hugging Face transformers names and shapes
    /// them: 6 + 6 layers, model 512, feed-forward 2048, 8 heads, vocabulary 32,128.
    #[must_use]
    pub fn t5_small() -> Self {
        let attention = |shapes: &mut Vec<Vec<usize>>| {
            shapes.extend((0..4).map(|_| vec![512, 512]));
        };
        let mut shapes = vec![vec![32_128, 512]];
        for decoder in [false, true] {
            for layer in 0..6 {
                attention(&mut shapes);
                if layer == 0 {
                    shapes.push(vec![32, 8]);
                }
                shapes.push(vec![512]);
                if decoder {
                    attention(&mut shapes);
                    shapes.push(vec![512]);
                }
                shapes.extend([vec![2048, 512], vec![512, 2048], vec![512]]);
            }
            shapes.push(vec![512]);
        }
        Self { name: "T5-small".to_owned(), shapes }
    }

    /// The parameters of BERT-base, uncased, 109.5 million, as Hugging Face transformers shapes
    /// them: 12 layers, model 768, feed-forward 3072, vocabulary 30,522.
    #[must_use]
    pub fn bert_base() -> Self {
        let linear = |shapes: &mut Vec<Vec<usize>>, rows: usize, columns: usize| {
            shapes.extend([vec![rows, columns], vec![rows]]);
        };
        let normalization = |shapes: &mut Vec<Vec<usize>>| shapes.extend([vec![768], vec![768]]);
        let mut shapes = vec![vec![30_522, 768], vec![512, 768], vec![2, 768]];
        normalization(&mut shapes);
        for _ in 0..12 {
            (0..4).for_each(|_| linear(&mut shapes, 768, 768));
            normalization(&mut shapes);
            linear(&mut shapes, 3072, 768);
            linear(&mut shapes, 768, 3072);
            normalization(&mut shapes);
        }
        linear(&mut shapes, 768, 768);
        Self { name: "BERT-base".to_owned(), shapes }
    }

    /// Elements of all parameters.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shapes.iter().map(|shape| shape.iter().product::<usize>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_have_their_published_sizes() {
        assert_eq!(Workload::t5_small().elements(), 60_506_624);
        assert_eq!(Workload::bert_base().elements(), 109_482_240);
    }
}
