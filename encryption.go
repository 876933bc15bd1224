// Values that are encrypted at rest: the keys, the file that they stand in, and the envelope that a session is stored in.

package redis

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/beego-session/redis/internal/record"
)

// What is sealed in an envelope: a byte that says how, the id of the key of the file, a nonce, and the stream in AES-256-GCM with
// its tag.
const (
	sealedForm  = 1
	keyIDSize   = 8
	sealedHead  = 1 + keyIDSize
	nonceSize   = 12
	tagSize     = 16
	sealedExtra = sealedHead + nonceSize + tagSize
)

// errSealed is wrapped by the errors of a value that is encrypted and cannot be read, or is not and should be. It may be a session
// all the same, for a process with other keys: nothing may be stored over it.
var errSealed = errors.New("nothing is stored over it")

func sealedError(format string, args ...any) error {
	return failing{KindUndecodable, fmt.Errorf(format+": %w", append(args, errSealed)...)}
}

// seal encrypts a value that is to be stored under a key.
func (b *backend) seal(key string, v record.Value) (record.Value, error) {
	keys := b.keysNow()
	if keys.writePlain {
		return v, nil
	}
	var nonce [nonceSize]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return "", fmt.Errorf("draw a nonce: %w", err)
	}
	k := keys.all[0]
	head := append([]byte{sealedForm}, k.id[:]...)
	binding := b.binding(key)
	return v.Seal(sealedExtra, func(dst []byte, stream record.Value) []byte {
		dst = append(append(dst, head...), nonce[:]...)
		begin := len(dst)
		dst = append(dst, stream...)
		return k.of(binding).Seal(dst[:begin], nonce[:], dst[begin:], append(head, binding...))
	}), nil
}

// unseal decrypts what is stored under a key, if it is encrypted.
func (b *backend) unseal(key string, v record.Value) (record.Value, error) {
	sealed, ok := v.Sealed()
	switch {
	case !ok && b.keys == nil:
		return v, nil
	case !ok && b.keysNow().refusePlain && !v.Blank():
		return "", sealedError("the value in Redis is not encrypted, which %s says to refuse", b.keys.path)
	case !ok:
		return v, nil
	case b.keys == nil:
		return "", sealedError("the value in Redis is encrypted: encryption_keys_file is not configured")
	case len(sealed) < sealedExtra:
		return "", sealedError("the value in Redis is encrypted, and damaged")
	case sealed[0] != sealedForm:
		return "", sealedError("the value in Redis is encrypted in the form %d, which this version does not know", sealed[0])
	}
	head, nonce, rest := sealed[:sealedHead], sealed[sealedHead:sealedHead+nonceSize], sealed[sealedHead+nonceSize:]
	id := head[1:]
	k := b.keysNow().find(id)
	if k == nil { // it may have been put into the file a moment ago
		b.tellKeys(b.keys.read())
		if k = b.keysNow().find(id); k == nil {
			return "", sealedError("the value in Redis is encrypted with a key that is not in %s (its id is %x)", b.keys.path, id)
		}
	}
	binding, text := b.binding(key), append(make([]byte, 0, len(v)), rest...) // with room for the entries
	stream, err := k.of(binding).Open(text[:0], []byte(nonce), text, append([]byte(head), binding...))
	if err != nil {
		return "", sealedError("the encrypted value in Redis was changed, or is that of another session")
	}
	return v.Unseal(stream), nil
}

// rebinding is what a value must go through that moves from one key to another, after it has got the version of that; nil: nothing.
func (b *backend) rebinding(from, to string) rebinding {
	if b.keys == nil {
		return nil
	}
	return func(v record.Value) (record.Value, error) {
		v, err := b.unseal(from, v)
		switch {
		case err != nil:
			return "", err
		case v.Version() != "":
		case b.replaces(errNoSession):
			v = record.Empty(record.Version(v[len(v.Unmoved()):]))
		default: // it ends in the middle, and in an envelope nobody would find the version behind it
			return "", failing{KindUndecodable, errNoSession}
		}
		return b.seal(to, v)
	}
}

// binding is what an encrypted value belongs to: the key of its session, in the form with a hash, so that a session that moves
// from the one form to the other can be read under both.
func (b *backend) binding(key string) string {
	if name := key[len(b.keyPrefix):]; !hashedName(name) {
		return b.keyPrefix + hashOf(name)
	}
	return key
}

// keysNow returns the keys as they are in their file, or were within the last second.
func (b *backend) keysNow() *keys {
	b.tellKeys(b.keys.look())
	return b.keys.now.Load()
}

// tellKeys tells that the file cannot be read. The caller may hold locks that who is told may need.
func (b *backend) tellKeys(err error) {
	if err != nil {
		go b.tell(context.Background(), "read the encryption keys", "", err)
	}
}

// keys is what a file of keys says.
type keys struct {
	all         []*fileKey // the first encrypts
	writePlain  bool       // values are not yet encrypted
	refusePlain bool       // values that are not encrypted are an error
}

// find returns the key with an id, or nil.
func (k *keys) find(id string) *fileKey {
	for _, key := range k.all {
		if string(key.id[:]) == id {
			return key
		}
	}
	return nil
}

// fileKey is a key as it stands in the file. It encrypts nothing itself.
type fileKey struct {
	id   [keyIDSize]byte
	macs sync.Pool // of HMAC-SHA256 under the key
}

func newFileKey(secret []byte) *fileKey {
	k := &fileKey{macs: sync.Pool{New: func() any { return hmac.New(sha256.New, secret) }}}
	copy(k.id[:], k.derive("beego-session/redis: id of a key 1"))
	return k
}

// derive returns HMAC-SHA256 under the key, of parts of which none is the beginning of another.
func (k *fileKey) derive(parts ...string) []byte {
	mac := k.macs.Get().(hash.Hash)
	defer k.macs.Put(mac)
	mac.Reset()
	for _, part := range parts {
		mac.Write([]byte(part))
	}
	return mac.Sum(nil)
}

// of returns the cipher of one session.
//
// Each session has a key of its own, because nonces are drawn at random: NIST SP 800-38D allows 2^32 of them under one key, so that
// two are the same with a probability of 2^-32 at the most. A site that saves 1000 times a second does that in 50 days; a session
// of its own that is saved ten times a second, in 13 years.
func (k *fileKey) of(binding string) cipher.AEAD {
	block, err := aes.NewCipher(k.derive("beego-session/redis: key of a session 1 ", binding))
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has blocks of 16 bytes
	}
	return aead
}

// keySize is the size of a key of the file, in bytes.
const keySize = 32

// parseKeys reads what is in a file of keys. Its errors show nothing of that.
func parseKeys(data []byte) (*keys, error) {
	k := new(keys)
	for i, line := range strings.Split(string(data), "\n") {
		line, _, _ = strings.Cut(line, "#")
		switch line = strings.TrimSpace(line); line {
		case "":
		case "write plain":
			k.writePlain = true
		case "refuse plain":
			k.refusePlain = true
		default:
			secret, err := base64.StdEncoding.Strict().DecodeString(line)
			if err != nil || len(secret) != keySize {
				return nil, fmt.Errorf("line %d is no key, which is %d random bytes in base64, as from openssl rand -base64 %[2]d", i+1, keySize)
			}
			k.all = append(k.all, newFileKey(secret))
		}
	}
	switch {
	case len(k.all) == 0:
		return nil, errors.New("there is no key in it")
	case k.writePlain && k.refusePlain:
		return nil, errors.New(`it says "write plain" and "refuse plain": what is written could not be read`)
	}
	return k, nil
}

// keyring is a file of keys, which is read again while it is used.
type keyring struct {
	path   string
	now    atomic.Pointer[keys]
	looked atomic.Int64 // when the file was read last, by sinceStart

	mu   sync.Mutex // one reads the file at a time. It protects what follows
	data []byte     // what was in it when it was right
	told string     // what is wrong with it, as far as that was told
}

// openKeys reads a file of keys.
func openKeys(path string) (*keyring, error) {
	r := &keyring{path: path}
	return r, r.read()
}

// keysInterval is how old what is known of a file of keys may be.
const keysInterval = time.Second

// look reads the file, if that is due and nobody else does.
func (r *keyring) look() error {
	looked, now := r.looked.Load(), sinceStart()
	if now-looked < int64(keysInterval) || !r.looked.CompareAndSwap(looked, now) {
		return nil
	}
	return r.read()
}

// read reads the file. If that fails the keys stay what they are, and it is an error once.
func (r *keyring) read() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.looked.Store(sinceStart()) }()
	data, err := os.ReadFile(r.path)
	if err == nil && r.now.Load() != nil && bytes.Equal(data, r.data) {
		r.told = ""
		return nil
	}
	var k *keys
	if err == nil {
		if k, err = parseKeys(data); err != nil {
			err = fmt.Errorf("%s: %w", r.path, err)
		}
	}
	switch {
	case err == nil:
		r.data, r.told = data, ""
		r.now.Store(k)
		return nil
	case err.Error() == r.told:
		return nil
	}
	r.told = err.Error()
	return failing{KindOther, fmt.Errorf("encryption_keys_file: %w", err)}
}
