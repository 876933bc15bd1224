// The root module's tests with the clients of another make that adapters/ has, which no tag could keep out of go.mod:
// go test -overlay=adapters/testdata/overlay.json -modfile=go.adapters.mod -run TestTheSuiteOnAnApplicationsClient .
module github.com/beego-session/redis

go 1.24

require (
	github.com/alicebob/miniredis/v2 v2.40.0
	github.com/beego/beego/v2 v2.0.0
	github.com/go-redis/redis/v7 v7.4.1
	github.com/prometheus/client_golang v1.7.0
)

require (
	github.com/beorn7/perks v1.0.1 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/golang/protobuf v1.4.2 // indirect
	github.com/hashicorp/golang-lru v0.5.4 // indirect
	github.com/matttproud/golang_protobuf_extensions v1.0.1 // indirect
	github.com/mitchellh/mapstructure v1.3.3 // indirect
	github.com/pkg/errors v0.9.1 // indirect
	github.com/prometheus/client_model v0.2.0 // indirect
	github.com/prometheus/common v0.10.0 // indirect
	github.com/prometheus/procfs v0.1.3 // indirect
	github.com/shiena/ansicolor v0.0.0-20151119151921-a422bbe96644 // indirect
	github.com/yuin/gopher-lua v1.1.1 // indirect
	go.uber.org/atomic v1.11.0 // indirect
	golang.org/x/crypto v0.36.0 // indirect
	golang.org/x/mod v0.24.0 // indirect
	golang.org/x/net v0.38.0 // indirect
	golang.org/x/sync v0.12.0 // indirect
	golang.org/x/sys v0.31.0 // indirect
	golang.org/x/text v0.23.0 // indirect
	golang.org/x/tools v0.31.0 // indirect
	google.golang.org/protobuf v1.23.0 // indirect
	gopkg.in/yaml.v2 v2.2.8 // indirect
)

require (
	github.com/beego-session/redis/adapters v0.0.0
	github.com/redis/go-redis/v9 v9.19.0
	github.com/redis/rueidis v1.0.69
)

replace github.com/beego-session/redis/adapters => ./adapters
