//! The bank: the upstream that moves the money. It has its own ledger of its acts.

use serde_json::{Value, json};
use tape_examples::upstream::{Request, Service};

/// A bank that carries out valid requests.
pub(crate) struct Bank;

/// US dollars for one unit, in millionths.
const PRICES: [(&str, u64); 3] = [("EUR", 1_081_250), ("GBP", 1_264_400), ("CHF", 1_112_900)];

impl Service for Bank {
    fn answer(&self, request: &Request) -> Result<Value, String> {
        let Request {
            reference,
            operation,
            content,
        } = request;
        if operation == "price" {
            let currency = content["currency"].as_str().unwrap_or_default();
            let price = PRICES.iter().find(|(known, _)| *known == currency);
            let (_, price) = price.ok_or_else(|| format!("no price for '{currency}'"))?;
            return Ok(json!({ "currency": currency, "usd_micro": price }));
        }
        match content["amount_micro"].as_u64() {
            Some(1..) => Ok(json!({ "receipt": reference, "status": "booked" })),
            _ => Err(format!(
                "{reference}: amount_micro must be a whole number above zero"
            )),
        }
    }
}
