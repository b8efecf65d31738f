// The tests whose outcome depends on the browser's cryptography or its regular expressions.
import "../graph.test.ts";
import "../msgpack.test.ts";
import "../primitives.test.ts";
import "../roster.test.ts";
import "../secagg.test.ts";
import "../split.test.ts";
import "../tokeniser_vectors.test.ts";
