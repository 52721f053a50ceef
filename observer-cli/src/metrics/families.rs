//! Writes metric families, each with its samples.

use std::fmt;

use observer_events::histogram::{BOUNDS_NS, Histogram};
use observer_events::snapshot::RouteSnapshot;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet,
};
use prometheus_client::metrics::MetricType;

/// What all families are written to.
pub(super) struct Families<'a>(pub(super) DescriptorEncoder<'a>);

impl Families<'_> {
    pub(super) fn counter(&mut self, name: &str, help: &str, count: u64) -> fmt::Result {
        let Self(encoder) = self;
        encoder
            .encode_descriptor(name, help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&count, None)
    }

    pub(super) fn counter_of_seconds(
        &mut self,
        name: &str,
        help: &str,
        seconds: f64,
    ) -> fmt::Result {
        let Self(encoder) = self;
        encoder
            .encode_descriptor(name, help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&seconds, None)
    }

    pub(super) fn counters<L, N>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = (L, N)>,
    ) -> fmt::Result
    where
        L: EncodeLabelSet,
        N: EncodeCounterValue,
    {
        let Self(encoder) = self;
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, count) in rows {
            family
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let Self(encoder) = self;
        encoder
            .encode_descriptor(name, help, None, MetricType::Gauge)?
            .encode_gauge(&value)
    }

    pub(super) fn gauges<L: EncodeLabelSet, N: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = (L, N)>,
    ) -> fmt::Result {
        let Self(encoder) = self;
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in rows {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    pub(super) fn infos<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = L>,
    ) -> fmt::Result {
        let Self(encoder) = self;
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Info)?;
        for labels in rows {
            family.encode_info(&labels)?;
        }
        Ok(())
    }

    pub(super) fn histogram(
        &mut self,
        name: &str,
        help: &str,
        histogram: &Histogram,
    ) -> fmt::Result {
        let Self(encoder) = self;
        let bounds = BOUNDS_NS.iter().map(|&bound| seconds(bound));
        let buckets: Vec<(f64, u64)> = bounds
            .chain([f64::INFINITY])
            .zip(histogram.counts)
            .collect();
        encoder
            .encode_descriptor(name, help, None, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(
                seconds(histogram.sum_ns),
                histogram.count(),
                &buckets,
                None,
            )
    }
}

/// Rows of one label.
pub(super) fn by<'a, const N: usize>(
    label: &'a str,
    rows: [(&'a str, u64); N],
) -> impl Iterator<Item = ([(&'a str, &'a str); 1], u64)> {
    let row = move |(value, count)| ([(label, value)], count);
    rows.into_iter().map(row)
}

pub(super) fn of_route(route: &RouteSnapshot) -> [(&'static str, &'static str); 1] {
    [("route", route.route.as_str())]
}

pub(super) fn seconds(nanoseconds: u64) -> f64 {
    float(nanoseconds) / 1e9
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus has floating-point numbers only; 53 bits of a time are enough"
)]
pub(super) fn seconds_of(nanoseconds: i128) -> f64 {
    nanoseconds as f64 / 1e9
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus has floating-point numbers only"
)]
pub(super) fn float(number: u64) -> f64 {
    number as f64
}
