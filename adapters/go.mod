// Clients of another make than go-redis v7. They live in a module of their own so that a site which has none of them does not
// get them.
module github.com/beego-session/redis/adapters

go 1.24

require (
	github.com/alicebob/miniredis/v2 v2.40.0
	github.com/beego-session/redis v0.0.0-00010101000000-000000000000
	github.com/beego/beego/v2 v2.0.0
	github.com/redis/go-redis/v9 v9.19.0
	github.com/redis/rueidis v1.0.69
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/go-redis/redis/v7 v7.4.1 // indirect
	github.com/yuin/gopher-lua v1.1.1 // indirect
	go.uber.org/atomic v1.11.0 // indirect
	golang.org/x/sys v0.31.0 // indirect
)

replace github.com/beego-session/redis => ../
