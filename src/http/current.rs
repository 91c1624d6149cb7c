//! The service as the settings stand now. A reload replaces it; a request ends with the one that it
//! began with.

use std::sync::{Arc, PoisonError, RwLock};

use super::auth::Keyring;
use super::options::Options;
use super::service::Service;
use super::tls::{Material, Tls};

/// What connections ask for a service, and for a handshake.
#[derive(Debug)]
pub struct Current {
    service: RwLock<Arc<Service>>,
    /// `None`: connections are not encrypted. Fixed for the life of the server: with a change,
    /// connections that are open would go on in clear text.
    tls: Option<Tls>,
}

impl Current {
    /// `service`, over TLS where there is a certificate.
    pub fn new(service: Service, material: Option<Material>) -> Self {
        let current = Self { service: RwLock::new(Arc::new(service)), tls: None };
        current.tell_expiry(material.as_ref());
        Self { tls: material.map(Tls::new), ..current }
    }

    /// The service for one request.
    pub fn service(&self) -> Arc<Service> {
        Arc::clone(&self.service.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What handshakes use, where there are any.
    pub const fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// From here on, requests are held to these limits, and their senders to these secrets.
    pub fn replace(&self, options: Options, keyring: Keyring) {
        let app = Arc::clone(&self.service().app);
        let next = Arc::new(Service::new(app, options, keyring));
        *self.service.write().unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// From here on, handshakes use this certificate. Without TLS nothing changes.
    pub fn replace_certificate(&self, material: Material) {
        if let Some(tls) = &self.tls {
            self.tell_expiry(Some(&material));
            tls.replace(material);
        }
    }

    fn tell_expiry(&self, material: Option<&Material>) {
        let metrics = &self.service().app.metrics;
        metrics
            .http_certificate_expiry
            .set(material.map_or(0, |material| material.expires_seconds));
    }
}
