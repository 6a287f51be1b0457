// sealed writes to a bolt file until its standard input ends. Every transaction leaves a seal that whoever reads the
// file can check: a reader that mixes pages of two transactions finds another sum.
//
//	sealed/gen     the generation, 8 bytes, big endian
//	sealed/k%06d   values that begin with the generation of the transaction that wrote them
//	sealed/sub/…   buckets, inline ones, ones with pages of their own, and nested ones
//	sealed/seal    the sum over all the others
package main

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"os"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
)

var (
	keys       = flag.Int("keys", 400, "keys, of which an eighth is absent in any one generation")
	touch      = flag.Int("touch", 100, "percent of the keys that a transaction writes")
	noSync     = flag.Bool("nosync", false, "as containerd's no_sync")
	noFreelist = flag.Bool("nofreelist", false, "do not write the free list, as containerd 1.7 and later")
	hashmap    = flag.Bool("hashmap", false, "the free list as a hash map")
	rate       = flag.Int("rate", 0, "transactions a second; 0 is as fast as it goes")
	readers    = flag.Int("readers", 0, "readers in this process, which hold pages back")
	rollback   = flag.Int("rollback", 0, "percent of the transactions that are rolled back")
	reopen     = flag.Int("reopen", 0, "close the file and open it again after so many transactions")
	big        = flag.Bool("big", false, "also values of many pages")
	grow       = flag.Bool("grow", false, "let the file grow")
)

var (
	top         = []byte("sealed")
	errRollback = errors.New("rolled back")
)

func main() {
	flag.Parse()
	rand.Seed(time.Now().UnixNano())
	if err := run(flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "sealed:", err)
		os.Exit(1)
	}
}

func open(path string) (*bolt.DB, error) {
	options := *bolt.DefaultOptions
	options.NoSync, options.NoGrowSync, options.NoFreelistSync = *noSync, *noSync, *noFreelist
	options.Timeout = 10 * time.Second
	if *hashmap {
		options.FreelistType = bolt.FreelistMapType
	}
	db, err := bolt.Open(path, 0o644, &options)
	if err != nil {
		return nil, err
	}
	for i := 0; i < *readers; i++ {
		go func() {
			for db.View(func(*bolt.Tx) error {
				time.Sleep(time.Duration(rand.Intn(30)) * time.Millisecond)
				return nil
			}) == nil {
			}
		}()
	}
	return db, nil
}

func run(path string) error {
	var stop atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop.Store(true)
	}()
	db, err := open(path)
	if err != nil {
		return err
	}
	var gen uint64
	_ = db.View(func(tx *bolt.Tx) error {
		if b := tx.Bucket(top); b != nil {
			gen = binary.BigEndian.Uint64(b.Get([]byte("gen")))
		}
		return nil
	})
	count, committed := 0, false
	for begun := time.Now(); !stop.Load(); count++ {
		gen++
		err := db.Update(func(tx *bolt.Tx) error { return write(tx, gen) })
		if err != nil && !errors.Is(err, errRollback) {
			return err
		}
		if err == nil && !committed {
			committed = true
			fmt.Println("ready")
		}
		if *reopen > 0 && count%*reopen == *reopen-1 {
			if err := db.Close(); err != nil {
				return err
			}
			if db, err = open(path); err != nil {
				return err
			}
		}
		if *rate > 0 {
			time.Sleep(time.Until(begun.Add(time.Duration(count+1) * time.Second / time.Duration(*rate))))
		}
	}
	fmt.Println(count, "transactions")
	return db.Close()
}

// value begins with the generation and consists of it.
func value(gen uint64, length int) []byte {
	bytes := binary.BigEndian.AppendUint64(nil, gen)
	for len(bytes) < length {
		bytes = binary.BigEndian.AppendUint64(bytes, gen)
	}
	return bytes
}

// write is one transaction.
func write(tx *bolt.Tx, gen uint64) error {
	b, err := tx.CreateBucketIfNotExists(top)
	if err != nil {
		return err
	}
	fresh := b.Get([]byte("gen")) == nil
	for i := 0; i < *keys; i++ {
		if !fresh && rand.Intn(100) >= *touch {
			continue
		}
		key := []byte(fmt.Sprintf("k%06d", i))
		length := 8 + rand.Intn(300)
		if *big && i%37 == 0 {
			length = 4000 + rand.Intn(30000)
		}
		if (uint64(i)*2654435761+gen)%8 == 0 {
			err = b.Delete(key)
		} else {
			err = b.Put(key, value(gen, length))
		}
		if err != nil {
			return err
		}
	}
	if err := b.Put([]byte("gen"), value(gen, 8)); err != nil {
		return err
	}
	sub, err := b.CreateBucketIfNotExists([]byte("sub"))
	if err != nil {
		return err
	}
	for i := 0; i < 20; i++ {
		if err := writeBucket(sub, gen, i); err != nil {
			return err
		}
	}
	s := newSum()
	if err := s.bucket(b, true); err != nil {
		return err
	}
	if err := b.Put([]byte("seal"), binary.BigEndian.AppendUint64(nil, uint64(s))); err != nil {
		return err
	}
	if *grow && gen%10 == 0 {
		junk, err := tx.CreateBucketIfNotExists([]byte("junk"))
		if err != nil {
			return err
		}
		if err := junk.Put(value(gen, 8), make([]byte, 20000)); err != nil {
			return err
		}
	}
	if rand.Intn(100) < *rollback {
		return errRollback
	}
	return nil
}

// writeBucket makes the bucket of a number: a third of them anew, a quarter too large to be inline, a fifth nested.
func writeBucket(sub *bolt.Bucket, gen uint64, i int) error {
	name := []byte(fmt.Sprintf("b%03d", i))
	if gen%3 == uint64(i)%3 && sub.Bucket(name) != nil {
		if err := sub.DeleteBucket(name); err != nil {
			return err
		}
	}
	b, err := sub.CreateBucketIfNotExists(name)
	if err != nil {
		return err
	}
	length := 8 + rand.Intn(300)
	if i%4 == 0 {
		length += 2000
	}
	if i%5 == 0 {
		nested, err := b.CreateBucketIfNotExists([]byte("nested"))
		if err != nil {
			return err
		}
		if err := nested.Put([]byte("c"), value(gen, 64)); err != nil {
			return err
		}
	}
	if err := b.Put([]byte("a"), value(gen, 8)); err != nil {
		return err
	}
	return b.Put([]byte("b"), value(gen, length))
}

// sum is FNV-1a over keys and values in order, with what tells where each begins and ends.
type sum uint64

func newSum() sum {
	return 0xcbf29ce484222325
}

func (s *sum) add(bytes []byte) {
	for _, b := range bytes {
		*s = (*s ^ sum(b)) * 0x100000001b3
	}
}

func (s *sum) part(kind byte, bytes []byte) {
	s.add(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(bytes))))
	s.add(bytes)
}

func (s *sum) bucket(b *bolt.Bucket, isTop bool) error {
	return b.ForEach(func(k, v []byte) error {
		if isTop && string(k) == "seal" {
			return nil
		}
		s.part('k', k)
		if v != nil {
			s.part('v', v)
			return nil
		}
		s.part('<', nil)
		if err := s.bucket(b.Bucket(k), false); err != nil {
			return err
		}
		s.part('>', nil)
		return nil
	})
}
