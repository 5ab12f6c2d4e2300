// Pins buf/validate/validate.proto, which `make generate` copies out of this module. Nothing here is compiled.
module github.com/parley-im/parley/tools/protovalidate

go 1.26.0

require github.com/bufbuild/protovalidate v1.2.2
