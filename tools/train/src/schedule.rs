//! The learning rate: a linear warm-up, then half a cosine down to a tenth.

/// The learning rate of a step.
pub(crate) fn learning_rate(peak: f64, step: usize, steps: usize) -> f64 {
    let warm_up = (steps / 20).max(1);
    if step < warm_up {
        return peak * (step + 1) as f64 / warm_up as f64;
    }
    let progress = (step - warm_up) as f64 / (steps - warm_up).max(1) as f64;
    let cosine = (1.0 + (std::f64::consts::PI * progress).cos()) / 2.0;
    peak * (0.1 + 0.9 * cosine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_then_falls() {
        let rates: Vec<f64> = (0..=200)
            .map(|step| learning_rate(1.0, step, 200))
            .collect();
        assert!(rates[..10].is_sorted() && rates[0] < 0.11);
        assert!(rates[10..].is_sorted_by(|a, b| a >= b));
        assert!((rates[9] - 1.0).abs() < 1e-12 && (rates[200] - 0.1).abs() < 1e-12);
    }
}
