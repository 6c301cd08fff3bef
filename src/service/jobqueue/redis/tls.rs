//! What a failed TLS handshake means for the operator, who has to mend it.

use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What is said of a server that does not speak TLS.
pub(super) const NO_TLS: &str = "TLS: the server does not speak TLS on this port; name its TLS port in \
     cache_server.redis.jobqueue.addr (REDIS_JOBQUEUE_ADDR), or connect without TLS \
     (cache_server.redis.jobqueue.tls, and redis:// in a URL)";
/// How long a server may take to answer a question that it can answer at once.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(300);

/// What is wrong, and what to do about it.
pub(super) fn explain(error: &Error) -> String {
    use AlertDescription as Alert;
    use CertificateError as Certificate;
    let advice = match error {
        Error::InvalidMessage(_) => return NO_TLS.to_owned(),
        Error::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
            "renew the server's certificate"
        }
        Error::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => {
            "address the server by a name of its certificate in cache_server.redis.jobqueue.addr \
         (REDIS_JOBQUEUE_ADDR)"
        }
        Error::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature) => {
            "add the CA of the server's certificate to those that this system trusts, or name it in \
             SSL_CERT_FILE"
        }
        // TLS 1.2 has no alert for a missing certificate: OpenSSL says handshake failure then.
        Error::AlertReceived(
            Alert::CertificateRequired | Alert::BadCertificate | Alert::HandshakeFailure,
        ) => {
            "the server refuses a client without a certificate that it trusts; set its \
             tls-auth-clients to no or optional"
        }
        _ => "check the TLS settings of the server",
    };
    format!("TLS: {error}; {advice}")
}

/// Whether the server at this place answers a client that does not speak TLS. A Redis without
/// TLS never answers a TLS handshake: it waits for the end of a line.
pub(super) async fn answers_in_plain_text(host: &str, port: u16) -> bool {
    let ask = async {
        let stream = TcpStream::connect((host, port)).await.ok()?;
        stream.writable().await.ok()?;
        stream.try_write(b"PING\r\n").ok()?;
        stream.readable().await.ok()?;
        let mut answer = [0];
        stream.try_read(&mut answer).ok()?;
        // +PONG, or -NOAUTH and other errors.
        Some(matches!(answer, [b'+' | b'-']))
    };
    let answer = timeout(ANSWER_TIMEOUT, ask).await;
    answer.ok().flatten().unwrap_or(false)
}
