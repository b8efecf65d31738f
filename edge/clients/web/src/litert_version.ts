/** The version of LiteRT.js that this page was built with. */

import { dependencies } from "../package.json";

export const LITERT_VERSION = dependencies["@litertjs/core"];
