//! The columns of each pattern. The README specifies them; a change here is a change of the data, so
//! [`SPECIFICATION`] goes up with it.

use crate::column::{Column, push_hex, push_number, push_padded};
use crate::config::{Clock, Pattern};
use crate::random::Draw;

/// The version of the specification in the README. It is part of the snapshot's name.
pub(crate) const SPECIFICATION: u32 = 1;

const CUSTOMERS: u64 = 100_000;
const PRODUCTS: u64 = 20_000;

const STATUSES: [&str; 6] = ["pending", "paid", "shipped", "delivered", "cancelled", "refunded"];
const STATUS_EDGES: [u64; 6] = [8, 25, 47, 92, 97, 100];
const CURRENCIES: [&str; 5] = ["EUR", "USD", "GBP", "CHF", "SEK"];
const CURRENCY_EDGES: [u64; 5] = [40, 75, 87, 95, 100];

const FIRST_NAMES: [&str; 16] = [
    "Ada", "Björn", "Chloé", "Dmitri", "Elena", "Farid", "Grace", "Hiro", "Ines", "Jakub", "Kofi", "Lena", "Mateo", "Noor", "Olga",
    "Priya",
];
const LAST_NAMES: [&str; 16] = [
    "Andersson",
    "Brown",
    "Castro",
    "Dubois",
    "Eriksen",
    "Fischer",
    "García",
    "Haddad",
    "Ito",
    "Jansen",
    "Kowalski",
    "López",
    "Müller",
    "Nguyen",
    "Okafor",
    "Patel",
];
const COUNTRIES: [&str; 12] = ["AU", "BR", "CA", "CH", "DE", "ES", "FR", "GB", "IN", "JP", "SE", "US"];
const PLANS: [&str; 3] = ["free", "pro", "team"];
const PLAN_EDGES: [u64; 3] = [70, 92, 100];

const EVENT_TYPES: [&str; 6] = ["page_view", "click", "search", "add_to_cart", "checkout", "sign_up"];
const EVENT_EDGES: [u64; 6] = [55, 78, 88, 95, 98, 100];
const PAGES: [&str; 8] = ["/", "/products", "/products/detail", "/cart", "/checkout", "/account", "/help", "/search"];
const DEVICES: [&str; 3] = ["desktop", "mobile", "tablet"];
const DEVICE_EDGES: [u64; 3] = [45, 93, 100];

const METRICS: [(&str, &str, f64); 6] = [
    ("cpu_usage", "percent", 100.0),
    ("memory_used", "bytes", 68_719_476_736.0),
    ("disk_read", "bytes_per_second", 1_073_741_824.0),
    ("network_in", "bytes_per_second", 134_217_728.0),
    ("request_latency", "milliseconds", 2_000.0),
    ("queue_depth", "count", 10_000.0),
];
const REGIONS: [&str; 4] = ["eu-central", "eu-west", "us-east", "us-west"];

/// What a pattern is made of.
pub(crate) struct Recipe {
    pub(crate) columns: Vec<Column>,
    pub(crate) primary_key: &'static str,
    /// Whether `start_time` and `interval_ms` show in the data.
    pub(crate) tells_time: bool,
}

fn id(name: &str) -> Column {
    Column::int64(name, |row| row as i64 + 1)
}

fn picked(name: &str, draw: Draw, words: &'static [&'static str]) -> Column {
    let longest = words.iter().map(|word| word.len()).max().unwrap_or(0);
    let count = words.len() as u64;
    Column::text(name, longest, move |row, bytes| bytes.extend_from_slice(words[draw.below(row, count) as usize].as_bytes()))
}

fn weighted(name: &str, draw: Draw, words: &'static [&'static str], edges: &'static [u64]) -> Column {
    let longest = words.iter().map(|word| word.len()).max().unwrap_or(0);
    Column::text(name, longest, move |row, bytes| bytes.extend_from_slice(words[draw.weighted(row, edges)].as_bytes()))
}

/// A version 4 UUID of two draws.
pub(crate) fn uuid_bytes(high: u64, low: u64) -> [u8; 16] {
    let high = (high & !0xf000) | 0x4000;
    let low = (low & !(0b11 << 62)) | (0b10 << 62);
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}

/// The columns of a pattern.
pub(crate) fn recipe(pattern: Pattern, seed: u64, clock: Clock) -> Recipe {
    let draw = |column: &str| Draw::new(seed, &format!("{}.{column}", pattern.as_str()));
    let (columns, primary_key, tells_time) = match pattern {
        Pattern::Sequence => (sequence(draw), "id", false),
        Pattern::Random => (random(draw, clock), "id", true),
        Pattern::Users => (users(draw, clock), "user_id", true),
        Pattern::Orders => (orders(draw, clock), "order_id", true),
        Pattern::Events => (events(draw, clock), "event_id", true),
        Pattern::Metrics => (metrics(draw, clock), "metric_id", true),
        Pattern::KeyValue => (key_value(draw), "key", false),
    };
    Recipe { columns, primary_key, tells_time }
}

fn sequence(draw: impl Fn(&str) -> Draw) -> Vec<Column> {
    let value = draw("value");
    vec![id("id"), Column::int64("value", move |row| value.below(row, 1_000_000) as i64)]
}

fn random(draw: impl Fn(&str) -> Draw, clock: Clock) -> Vec<Column> {
    let (int, float, boolean, text, decimal) = (draw("int"), draw("float"), draw("bool"), draw("text"), draw("decimal"));
    let (high, low, time, maybe, is_null) = (draw("uuid_high"), draw("uuid_low"), draw("time"), draw("maybe"), draw("maybe_null"));
    vec![
        id("id"),
        Column::int64("int_value", move |row| int.bits(row) as i64),
        Column::float64("float_value", move |row| float.unit(row)),
        Column::boolean("bool_value", move |row| boolean.bits(row) >> 63 == 1),
        Column::text("text_value", 16, move |row, bytes| push_hex(bytes, text.bits(row))),
        // Up to 14 digits before the point and 4 after it, of either sign.
        Column::decimal("decimal_value", 18, 4, move |row| {
            i128::from(decimal.below(row, 1_999_999_999_999_999_999)) - 999_999_999_999_999_999
        }),
        Column::uuid("uuid_value", move |row| uuid_bytes(high.bits(row), low.bits(row))),
        Column::timestamp("time_value", move |row| clock.at(row) + time.below(row, clock.interval_micros) as i64),
        Column::int64("maybe_value", move |row| maybe.below(row, 1_000_000) as i64)
            .nullable(move |row| is_null.below(row, 100) < 20),
    ]
}

fn users(draw: impl Fn(&str) -> Draw, clock: Clock) -> Vec<Column> {
    let (first, last, active, balance) = (draw("first_name"), draw("last_name"), draw("is_active"), draw("balance"));
    let (signup, seen, never) = (draw("created_at"), draw("last_seen_at"), draw("never_seen"));
    let created = move |row| clock.at(row) + signup.below(row, clock.interval_micros) as i64;
    vec![
        id("user_id"),
        Column::text("email", 40, |row, bytes| {
            bytes.extend_from_slice(b"user");
            push_number(bytes, row + 1);
            bytes.extend_from_slice(b"@example.com");
        }),
        picked("first_name", first, &FIRST_NAMES),
        picked("last_name", last, &LAST_NAMES),
        picked("country", draw("country"), &COUNTRIES),
        weighted("plan", draw("plan"), &PLANS, &PLAN_EDGES),
        Column::boolean("is_active", move |row| active.below(row, 100) < 85),
        // -100.00 to 9,999.99.
        Column::decimal("balance", 12, 2, move |row| balance.below(row, 1_010_000) as i128 - 10_000),
        Column::timestamp("created_at", created),
        Column::timestamp("last_seen_at", move |row| created(row) + seen.below(row, 604_800) as i64 * 1_000_000)
            .nullable(move |row| never.below(row, 100) < 10),
    ]
}

fn orders(draw: impl Fn(&str) -> Draw, clock: Clock) -> Vec<Column> {
    let (customer, product, quantity, price) = (draw("customer_id"), draw("product_code"), draw("quantity"), draw("unit_price"));
    let (gift, coupon, created, updated) = (draw("is_gift"), draw("coupon_code"), draw("created_at"), draw("updated_at"));
    let customer_id = move |row| customer.below(row, CUSTOMERS) + 1;
    let pieces = move |row| quantity.below(row, 10) + 1;
    // Cents: 0.99 to 499.99.
    let unit_price = move |row| price.below(row, 49_901) + 99;
    let created_at = move |row| clock.at(row) + created.below(row, clock.interval_micros) as i64;
    vec![
        id("order_id"),
        Column::int64("customer_id", move |row| customer_id(row) as i64),
        Column::text("customer_email", 40, move |row, bytes| {
            bytes.extend_from_slice(b"customer");
            push_number(bytes, customer_id(row));
            bytes.extend_from_slice(b"@example.com");
        }),
        Column::text("product_code", 9, move |row, bytes| {
            bytes.extend_from_slice(b"SKU-");
            push_padded(bytes, product.below(row, PRODUCTS), 5);
        }),
        weighted("status", draw("status"), &STATUSES, &STATUS_EDGES),
        weighted("currency", draw("currency"), &CURRENCIES, &CURRENCY_EDGES),
        Column::int32("quantity", move |row| pieces(row) as i32),
        Column::decimal("unit_price", 12, 2, move |row| i128::from(unit_price(row))),
        Column::decimal("amount", 12, 2, move |row| i128::from(pieces(row) * unit_price(row))),
        Column::boolean("is_gift", move |row| gift.below(row, 100) < 7),
        Column::text("coupon_code", 6, move |row, bytes| {
            // A null's text is not looked at.
            let roll = coupon.below(row, 10_000);
            if roll < 1500 {
                bytes.extend_from_slice(b"SAVE");
                push_number(bytes, 5 + 5 * (roll % 6));
            }
        })
        .nullable(move |row| coupon.below(row, 10_000) >= 1500),
        Column::timestamp("created_at", created_at),
        Column::timestamp("updated_at", move |row| created_at(row) + updated.below(row, 604_800) as i64 * 1_000_000),
    ]
}

fn events(draw: impl Fn(&str) -> Draw, clock: Clock) -> Vec<Column> {
    let (high, low, user, anonymous) = (draw("session_high"), draw("session_low"), draw("user_id"), draw("anonymous"));
    let (duration, position, time) = (draw("duration_ms"), draw("scroll"), draw("occurred_at"));
    let properties = draw("properties");
    vec![
        id("event_id"),
        Column::uuid("session_id", move |row| uuid_bytes(high.bits(row), low.bits(row))),
        Column::int64("user_id", move |row| user.below(row, CUSTOMERS) as i64 + 1)
            .nullable(move |row| anonymous.below(row, 100) < 30),
        weighted("event_type", draw("event_type"), &EVENT_TYPES, &EVENT_EDGES),
        picked("page", draw("page"), &PAGES),
        weighted("device", draw("device"), &DEVICES, &DEVICE_EDGES),
        picked("country", draw("country"), &COUNTRIES),
        Column::int32("duration_ms", move |row| duration.below(row, 120_000) as i32),
        Column::text("properties", 64, move |row, bytes| {
            bytes.extend_from_slice(b"{\"scroll\":");
            push_number(bytes, position.below(row, 101));
            bytes.extend_from_slice(b",\"variant\":\"");
            bytes.push(b'a' + properties.below(row, 4) as u8);
            bytes.extend_from_slice(b"\"}");
        }),
        Column::timestamp("occurred_at", move |row| clock.at(row) + time.below(row, clock.interval_micros) as i64),
    ]
}

fn metrics(draw: impl Fn(&str) -> Draw, clock: Clock) -> Vec<Column> {
    let (host, kind, value) = (draw("host"), draw("metric"), draw("value"));
    let which = move |row| METRICS[kind.below(row, METRICS.len() as u64) as usize];
    vec![
        id("metric_id"),
        Column::text("host", 8, move |row, bytes| {
            bytes.extend_from_slice(b"host-");
            push_padded(bytes, host.below(row, 500), 3);
        }),
        picked("region", draw("region"), &REGIONS),
        Column::text("metric", 16, move |row, bytes| bytes.extend_from_slice(which(row).0.as_bytes())),
        Column::text("unit", 16, move |row, bytes| bytes.extend_from_slice(which(row).1.as_bytes())),
        Column::float64("value", move |row| value.unit(row) * which(row).2),
        Column::timestamp("measured_at", move |row| clock.at(row)),
    ]
}

fn key_value(draw: impl Fn(&str) -> Draw) -> Vec<Column> {
    let (high, low, version) = (draw("value_high"), draw("value_low"), draw("version"));
    vec![
        Column::text("key", 24, |row, bytes| {
            bytes.extend_from_slice(b"key-");
            push_padded(bytes, row + 1, 12);
        }),
        Column::text("value", 32, move |row, bytes| {
            push_hex(bytes, high.bits(row));
            push_hex(bytes, low.bits(row));
        }),
        Column::int32("version", move |row| version.below(row, 100) as i32 + 1),
    ]
}
