package controlplane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/utils/clock"
)

// certificateLife is how long the lab's certificates hold: longer than any run, short enough to be worthless later.
const certificateLife = 7 * 24 * time.Hour

// keyPair is a certificate with its key, both as PEM.
type keyPair struct {
	cert, key []byte
}

// authority signs certificates.
type authority struct {
	keyPair
	certificate *x509.Certificate
	private     *ecdsa.PrivateKey
}

// subject is who a certificate is for and what it may be used for.
type subject struct {
	name    string
	groups  []string
	usage   x509.ExtKeyUsage
	dns     []string
	ips     []net.IP
	isCA    bool
	issuer  *authority // nil: self-signed.
	private *ecdsa.PrivateKey
}

func newAuthority(name string) (*authority, error) {
	private, err := newKey()
	if err != nil {
		return nil, err
	}
	pair, err := sign(subject{name: name, isCA: true, private: private})
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(pair.cert)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse certificate of %s: %w", name, err)
	}
	return &authority{keyPair: pair, certificate: certificate, private: private}, nil
}

func (a *authority) issue(s subject) (keyPair, error) {
	private, err := newKey()
	if err != nil {
		return keyPair{}, err
	}
	s.issuer, s.private = a, private
	return sign(s)
}

func newKey() (*ecdsa.PrivateKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return private, nil
}

func sign(s subject) (keyPair, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return keyPair{}, fmt.Errorf("make serial number: %w", err)
	}
	now := clock.RealClock{}.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: s.name, Organization: s.groups},
		NotBefore:             now.Add(-time.Minute),
		NotAfter:              now.Add(certificateLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{s.usage},
		DNSNames:              s.dns,
		IPAddresses:           s.ips,
		BasicConstraintsValid: true,
	}
	parent, signer := template, s.private
	if s.isCA {
		template.IsCA, template.ExtKeyUsage = true, nil
		template.KeyUsage |= x509.KeyUsageCertSign
	}
	if s.issuer != nil {
		parent, signer = s.issuer.certificate, s.issuer.private
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &s.private.PublicKey, signer)
	if err != nil {
		return keyPair{}, fmt.Errorf("sign certificate of %s: %w", s.name, err)
	}
	key, err := keyPEM(s.private)
	if err != nil {
		return keyPair{}, err
	}
	return keyPair{cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key: key}, nil
}

func keyPEM(private *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// pki is what the control plane's processes need, under kubeadm's file names.
type pki struct {
	dir                      string
	ca, frontProxyCA         *authority
	apiserver, frontProxy    keyPair
	admin, controllerManager keyPair
}

// newPKI makes all keys and certificates and writes those that processes read into dir.
func newPKI(dir string) (*pki, error) {
	p := &pki{dir: dir}
	var err error
	if p.ca, err = newAuthority("kubernetes"); err != nil {
		return nil, err
	}
	if p.frontProxyCA, err = newAuthority("front-proxy-ca"); err != nil {
		return nil, err
	}
	issues := []struct {
		into *keyPair
		by   *authority
		subject
	}{
		{&p.apiserver, p.ca, subject{
			name: "kube-apiserver", usage: x509.ExtKeyUsageServerAuth,
			dns: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
			ips: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 96, 0, 1)},
		}},
		{&p.frontProxy, p.frontProxyCA, subject{name: "front-proxy-client", usage: x509.ExtKeyUsageClientAuth}},
		{&p.admin, p.ca, subject{name: "kubernetes-admin", groups: []string{"system:masters"}, usage: x509.ExtKeyUsageClientAuth}},
		{&p.controllerManager, p.ca, subject{name: "system:kube-controller-manager", usage: x509.ExtKeyUsageClientAuth}},
	}
	for _, i := range issues {
		if *i.into, err = i.by.issue(i.subject); err != nil {
			return nil, err
		}
	}
	return p, p.write()
}

func (p *pki) write() error {
	serviceAccount, err := newKey()
	if err != nil {
		return err
	}
	private, err := keyPEM(serviceAccount)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&serviceAccount.PublicKey)
	if err != nil {
		return fmt.Errorf("encode service account key: %w", err)
	}
	files := map[string][]byte{
		"ca.crt": p.ca.cert, "ca.key": p.ca.key,
		"front-proxy-ca.crt":     p.frontProxyCA.cert,
		"front-proxy-client.crt": p.frontProxy.cert, "front-proxy-client.key": p.frontProxy.key,
		"apiserver.crt": p.apiserver.cert, "apiserver.key": p.apiserver.key,
		"sa.key": private,
		"sa.pub": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
	}
	for name, content := range files {
		if err := os.WriteFile(p.path(name), content, 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

func (p *pki) path(name string) string { return filepath.Join(p.dir, name) }
