//! The losses of the models trained so far, as a picture.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use crate::checkpoint::Progress;
use crate::model::Kind;

/// Draws training loss (thin) and held-out loss (thick, with marks) of every model, and the unigram entropy.
pub(crate) fn draw(trainings: &[Progress], unigram: f64, path: &Path) -> Result<()> {
    register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular())
        .map_err(|_| anyhow!("the font is damaged"))?;
    let losses = || {
        let held_out = |run: &Progress| {
            run.held_out
                .iter()
                .map(|(_, loss)| *loss)
                .collect::<Vec<_>>()
        };
        trainings
            .iter()
            .flat_map(move |run| [held_out(run), run.training.clone()].concat())
    };
    let (least, most) = losses().fold((unigram, unigram), |(a, b), loss| {
        (a.min(loss), b.max(loss))
    });
    let steps = trainings
        .iter()
        .map(|run| run.step)
        .max()
        .unwrap_or(1)
        .max(1);
    let root = BitMapBackend::new(path, (960, 600)).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(
            "Loss in nats per byte: held out (marks), in training (thin)",
            ("sans-serif", 20),
        )
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0..steps, least * 0.95..most * 1.02)?;
    chart
        .configure_mesh()
        .x_desc("step")
        .y_desc("loss")
        .draw()?;
    let frequencies = LineSeries::new([(0, unigram), (steps, unigram)], BLACK.stroke_width(1));
    chart
        .draw_series(frequencies)?
        .label("byte frequencies alone")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], BLACK));
    for run in trainings {
        let color = color(run.kind);
        let training = run
            .training
            .iter()
            .enumerate()
            .map(|(step, loss)| (step + 1, *loss));
        chart.draw_series(LineSeries::new(training, color.mix(0.35)))?;
        let held_out = LineSeries::new(run.held_out.clone(), color.stroke_width(3)).point_size(4);
        chart
            .draw_series(held_out)?
            .label(run.kind.to_string())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    Ok(root.present()?)
}

/// A model's colour, whichever others are drawn.
fn color(kind: Kind) -> RGBColor {
    match kind {
        Kind::Diff => RGBColor(214, 39, 40),
        Kind::V2 => RGBColor(44, 140, 44),
        Kind::Standard => RGBColor(31, 99, 180),
    }
}
