//! Plots as SVG: lines over a linear or logarithmic axis, with a grid, a legend and nothing else.

use std::fmt::Write;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 56.0;
/// Colours that are told apart by colour-blind readers (Okabe and Ito).
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442"];

/// How an axis runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Evenly.
    Linear,
    /// By powers of ten; 0 stands a decade before the least number above it.
    Log,
}

/// A plot.
#[derive(Clone, Debug)]
pub struct Plot {
    /// Its title.
    pub title: String,
    /// The words below, and how the axis runs.
    pub x: (String, Axis),
    /// The words beside it.
    pub y: (String, Axis),
    /// Lines: name and points.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
    /// Vertical marks: where, and what they say.
    pub marks: Vec<(f64, String)>,
}

/// From numbers to a place of the axis, 0 to 1.
struct Scale {
    axis: Axis,
    low: f64,
    high: f64,
    /// The least number above 0.
    least: f64,
    /// Whether there is a number that a logarithm has no place for.
    has_zero: bool,
}

impl Scale {
    fn of(axis: Axis, values: impl Iterator<Item = f64> + Clone) -> Scale {
        let values = values.filter(|value| value.is_finite());
        let least = values.clone().filter(|&value| value > 0.0).fold(f64::INFINITY, f64::min);
        let least = if least.is_finite() { least } else { 1.0 };
        let has_zero = values.clone().any(|value| value <= 0.0);
        let mut scale = Scale { axis, low: 0.0, high: 1.0, least, has_zero };
        let places = values.map(|value| scale.raw(value));
        let (low, high) = places.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), p| (low.min(p), high.max(p)));
        if low <= high {
            // A linear axis begins at zero, so that heights compare as the numbers do.
            scale.low = if axis == Axis::Linear { low.min(0.0) } else { low.floor() };
            scale.high = if axis == Axis::Linear { high * 1.05 } else { high.ceil() };
        }
        if scale.high <= scale.low {
            scale.high = scale.low + 1.0;
        }
        scale
    }
    fn raw(&self, value: f64) -> f64 {
        match self.axis {
            Axis::Linear => value,
            Axis::Log if value > 0.0 => value.log10(),
            Axis::Log => self.least.log10().floor() - 1.0,
        }
    }
    fn place(&self, value: f64) -> f64 {
        (self.raw(value) - self.low) / (self.high - self.low)
    }
    /// Where the grid has lines, and what is written there.
    fn ticks(&self) -> Vec<(f64, String)> {
        let span = self.high - self.low;
        let step = match self.axis {
            Axis::Log => (span / 8.0).ceil().max(1.0),
            Axis::Linear => {
                let rough = 10f64.powf((span / 5.0).log10().floor());
                [1.0, 2.0, 5.0, 10.0].map(|by| by * rough).into_iter().find(|step| span / step <= 6.0).unwrap_or(span)
            }
        };
        let mut ticks = Vec::new();
        let mut at = (self.low / step).ceil() * step;
        while at <= self.high + step * 1e-6 && ticks.len() < 20 {
            let value = if self.axis == Axis::Log { 10f64.powf(at) } else { at };
            let is_zero = self.axis == Axis::Log && self.has_zero && value < self.least * 0.99;
            let words = if is_zero { "0".to_owned() } else { number(value) };
            ticks.push(((at - self.low) / span, words));
            at += step;
        }
        ticks
    }
}

/// A number in few characters: 1.5k, 20M.
pub fn number(value: f64) -> String {
    for (from, unit) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if value.abs() >= from * 0.999_999 {
            return format!("{}{unit}", trimmed(value / from));
        }
    }
    trimmed(value)
}

fn trimmed(value: f64) -> String {
    let places = if value.abs() >= 10.0 { 1 } else { 3 };
    let text = format!("{value:.places$}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Plot {
    /// The text of the file.
    pub fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|(_, points)| points.iter());
        let xs = Scale::of(self.x.1, points().map(|p| p.0).chain(self.marks.iter().map(|m| m.0)));
        let ys = Scale::of(self.y.1, points().map(|p| p.1));
        let (wide, high) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
        let to_x = |place: f64| LEFT + place * wide;
        let to_y = |place: f64| TOP + (1.0 - place) * high;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        let mut line = |text: std::fmt::Arguments<'_>| {
            // Writing to a string cannot fail.
            let _ = writeln!(svg, "{text}");
        };
        line(format_args!("<text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>", escaped(&self.title)));
        for (place, words) in xs.ticks() {
            let (x, bottom) = (to_x(place), HEIGHT - BOTTOM);
            line(format_args!("<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/>"));
            let y = bottom + 16.0;
            line(format_args!("<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{words}</text>"));
        }
        for (place, words) in ys.ticks() {
            let (y, right) = (to_y(place), WIDTH - RIGHT);
            line(format_args!("<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/>"));
            let (x, y) = (LEFT - 6.0, y + 4.0);
            line(format_args!("<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{words}</text>"));
        }
        let (middle, below) = (LEFT + wide / 2.0, HEIGHT - 16.0);
        line(format_args!("<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">{}</text>", escaped(&self.x.0)));
        let centre = TOP + high / 2.0;
        line(format_args!(
            "<text x=\"18\" y=\"{centre}\" text-anchor=\"middle\" transform=\"rotate(-90 18 {centre})\">{}</text>",
            escaped(&self.y.0)
        ));
        for (value, words) in &self.marks {
            let (x, bottom) = (to_x(xs.place(*value)), HEIGHT - BOTTOM);
            line(format_args!("<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#555\" stroke-dasharray=\"4 3\"/>"));
            let (x, y) = (x + 4.0, TOP + 12.0);
            line(format_args!("<text x=\"{x:.1}\" y=\"{y}\" fill=\"#555\">{}</text>", escaped(words)));
        }
        for (index, (name, points)) in self.lines.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let finite = points.iter().filter(|p| p.0.is_finite() && p.1.is_finite());
            let path: Vec<String> =
                finite.map(|&(x, y)| format!("{:.1},{:.1}", to_x(xs.place(x)), to_y(ys.place(y)))).collect();
            line(format_args!(
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\" points=\"{}\"/>",
                path.join(" ")
            ));
            if points.len() <= 40 {
                for point in path.iter().filter_map(|point| point.split_once(',')) {
                    line(format_args!("<circle cx=\"{}\" cy=\"{}\" r=\"3\" fill=\"{colour}\"/>", point.0, point.1));
                }
            }
            let (x, y) = (LEFT + (index % 4) as f64 * 170.0, 38.0 + (index / 4) as f64 * 14.0);
            line(format_args!("<rect x=\"{x}\" y=\"{}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>", y - 9.0));
            line(format_args!("<text x=\"{}\" y=\"{y}\">{}</text>", x + 14.0, escaped(name)));
        }
        svg.push_str("</svg>\n");
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(x: Axis, y: Axis, points: Vec<(f64, f64)>) -> String {
        Plot {
            title: "a < b & \"c\"".to_owned(),
            x: ("programs".to_owned(), x),
            y: ("Mpps".to_owned(), y),
            lines: vec![("firewall".to_owned(), points)],
            marks: vec![(10.0, "knee".to_owned())],
        }
        .svg()
    }

    /// The points of the first line.
    fn places(svg: &str) -> Vec<(f64, f64)> {
        let points = svg.split("points=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a line");
        let pair = |p: &str| p.split_once(',').and_then(|(x, y)| Some((x.parse().ok()?, y.parse().ok()?)));
        points.split_whitespace().map(|point| pair(point).expect("two numbers")).collect()
    }

    #[test]
    fn points_stand_where_their_numbers_say() {
        let svg = plot(Axis::Log, Axis::Linear, vec![(0.0, 10.0), (1.0, 5.0), (10.0, 2.5), (100.0, 0.0)]);
        let places = places(&svg);
        let step = places[1].0 - places[0].0;
        assert!(
            places.windows(2).all(|pair| (pair[1].0 - pair[0].0 - step).abs() < 0.2),
            "decades are even: {places:?}"
        );
        assert!((places[3].1 - (HEIGHT - BOTTOM)).abs() < 0.1, "zero is at the bottom");
        let (ten, five) = (places[3].1 - places[0].1, places[3].1 - places[1].1);
        assert!((ten / five - 2.0).abs() < 0.01, "heights compare as numbers");
        assert!(svg.contains("a &lt; b &amp; &quot;c&quot;") && svg.contains(">knee<"));
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn a_logarithmic_axis_has_a_place_for_zero_where_there_is_one() {
        let words = |values: &[f64]| -> Vec<String> {
            Scale::of(Axis::Log, values.iter().copied()).ticks().into_iter().map(|(_, words)| words).collect()
        };
        assert_eq!(words(&[0.0, 1.0, 10.0]), ["0", "1", "10"]);
        assert_eq!(words(&[2.5, 30.0]), ["1", "10", "100"]);
    }

    #[test]
    fn any_numbers_make_a_plot() {
        for axis in [Axis::Linear, Axis::Log] {
            for points in [vec![], vec![(0.0, 0.0)], vec![(5.0, 5.0); 3], vec![(f64::NAN, 1.0), (1.0, f64::INFINITY)]] {
                let svg = plot(axis, axis, points);
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 0.25, 1.0, 999.0, 1000.0, 1500.0, 2e7, 1e9].map(number);
        assert_eq!(shown, ["0", "0.25", "1", "999", "1k", "1.5k", "20M", "1G"]);
    }
}
