package supervisor

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
)

// targetDigest returns a digest of where a tunnel of a service leads, and as whom, which is different for each nonce. requestedAt is
// as in forwarder.TargetIdentifier. It is not ok if the tunnel cannot be shared. It reads files.
func (s *Supervisor) targetDigest(svc project.Service, driver forwarder.Driver, requestedAt time.Time, nonce []byte) (digest []byte, ok bool) {
	identifier, ok := driver.(forwarder.TargetIdentifier)
	if !ok || svc.Reverse || svc.Bridge != "" { // a borrower has no listener on the bridge
		return nil, false
	}
	key, ok := identifier.TargetKey(svc, forwarder.Run{Dir: s.root(), Env: s.env.childEnviron(), RequestedAt: requestedAt})
	if !ok {
		return nil, false
	}
	text, err := json.Marshal(byteStrings(append([]string{svc.Technology}, key...)))
	if err != nil {
		return nil, false
	}
	secret := sha256.Sum256(text)
	mac := hmac.New(sha256.New, secret[:])
	mac.Write(nonce)
	return mac.Sum(nil), true
}

// byteStrings returns the bytes of strings: JSON would replace those that are not UTF-8.
func byteStrings(texts []string) [][]byte {
	all := make([][]byte, len(texts))
	for i, text := range texts {
		all[i] = []byte(text)
	}
	return all
}
